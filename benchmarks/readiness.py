"""Time from a server's start to its readiness, with a cold and a warm compile cache.

A `saccade serve` process loads a checkpoint with random weights, compiles its default
buckets and verifies them with the canary. A second process finds the compiled programs
of the first in the cache.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.cases import EVENT_RATE_PER_MS, Model
from saccade.clients.commands.server_process import ServerProcess
from saccade.model.checkpoint import save
from saccade.model.manifest import Manifest, make_canary
from saccade.model.upstream.recipes import recipe

CANARY_TICKS: Final = 2


class Readiness(NamedTuple):
    """The duration of one start; `cache` is `cold` or `warm`."""

    model: str
    cache: str
    seconds: float


def until_ready(name: str, model: Model) -> list[Readiness]:
    """Start a server twice on the same cache folder, and time each start.

    Args:
        name: The configuration's recipe.
        model: The weights to serve.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, cache = Path(folder, "checkpoint"), Path(folder, "compiled")
        save_random(checkpoint, name, model)
        start = partial(_start, checkpoint, cache)
        return [Readiness(name, kind, start()) for kind in ("cold", "warm")]


def _start(checkpoint: Path, cache: Path) -> float:
    arguments = ["--model", str(checkpoint), "--compiled", str(cache)]
    started_s = time.perf_counter()
    with ServerProcess(arguments) as server:
        server.wait_until_ready(lambda _: None)
        return time.perf_counter() - started_s


def save_random(path: Path, name: str, model: Model) -> None:
    """Write a checkpoint of a configuration's recipe with these weights."""
    facts, config = recipe(name), model.config
    rng = np.random.default_rng(0)
    length = CANARY_TICKS * config.tick_events
    tokens = rng.integers(config.num_embeddings, size=length, dtype=np.int32)
    dt_ms = rng.exponential(1 / EVENT_RATE_PER_MS, length).astype(np.float32)
    canary = make_canary(config, model.variables, tokens, dt_ms)
    label = name.replace("/", "-")
    save(
        path,
        Manifest(
            label, facts.labels, config, facts.tokenization, facts.timestep, canary
        ),
        model.variables,
    )
