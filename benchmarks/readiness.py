"""How long a server takes from its command to readiness, with and without its cache.

A real `saccade serve` process loads a checkpoint with random weights, compiles its
default buckets and proves them with the canary; then another one, which finds in the
cache what the first compiled.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import jax
import numpy as np

from benchmarks.cases import EVENT_RATE_PER_MS, Model
from saccade.clients.commands.server_process import ServerProcess
from saccade.model.checkpoint import save
from saccade.model.classifier import scan
from saccade.model.manifest import Canary, Manifest
from saccade.model.upstream.recipes import recipe

CANARY_TICKS: Final = 2


class Readiness(NamedTuple):
    """What one start took; `cache` is `cold` or `warm`."""

    model: str
    cache: str
    seconds: float


def until_ready(name: str, model: Model) -> list[Readiness]:
    """Start a server twice on the same cache folder.

    Args:
        name: The configuration's recipe.
        model: Whose weights are served.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, cache = Path(folder, "checkpoint"), Path(folder, "compiled")
        _save(checkpoint, name, model)
        start = partial(_start, checkpoint, cache)
        return [Readiness(name, kind, start()) for kind in ("cold", "warm")]


def _start(checkpoint: Path, cache: Path) -> float:
    arguments = ["--model", str(checkpoint), "--compiled", str(cache)]
    started_s = time.perf_counter()
    with ServerProcess(arguments) as server:
        server.wait_until_ready(lambda _: None)
        return time.perf_counter() - started_s


def _save(path: Path, name: str, model: Model) -> None:
    facts, config = recipe(name), model.config
    rng = np.random.default_rng(0)
    length = CANARY_TICKS * config.tick_events
    tokens = rng.integers(config.num_embeddings, size=length, dtype=np.int32)
    dt_ms = rng.exponential(1 / EVENT_RATE_PER_MS, length).astype(np.float32)
    logits = jax.jit(partial(scan, config))(model.variables, tokens, dt_ms)
    canary = Canary(*(tuple(np.asarray(x).tolist()) for x in (tokens, dt_ms, logits)))
    label = name.replace("/", "-")
    save(
        path,
        Manifest(
            label, facts.labels, config, facts.tokenization, facts.timestep, canary
        ),
        model.variables,
    )
