"""Benchmark of training: tokens per second of a step, beside a plain implementation.

    python -m benchmarks.training [--quick] [--json PATH]

The published shd/medium with its published optimiser, on batches of 4 × 8,192 synthetic
tokens: the step of `saccade train` on one device and on one device a core, the latter
in bfloat16 too, and the step of `benchmarks.plain_training`. All are timed in turn in
one run. The reference's 33,000 tokens/s on 2 CPU cores were measured elsewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.plain_training import make_plain_step
from benchmarks.timing import interleave
from saccade.model.classifier import Classifier, initialize
from saccade.model.config import ModelConfig
from saccade.model.precision import PRECISIONS
from saccade.model.training import devices, optimizer, train_state
from saccade.model.training.config import resolve
from saccade.model.training.input_pipeline import Batch
from saccade.model.training.settings import Settings
from saccade.model.training.typed import build

ROWS: Final = 4
LENGTH: Final = 8192
CHANNELS: Final = 700
WORDS: Final = 20
STEPS: Final = 1000
REFERENCE: Final = 33_000.0
PLAIN: Final = "plain associative scan"


class Case(NamedTuple):
    """One line of the result; `ratio` is to the plain case's median in this run."""

    name: str
    tokens_per_second: float
    ratio: float
    to_reference: float
    step_ms: float


def published() -> tuple[ModelConfig, Settings]:
    """Return shd/medium and the settings of its training."""
    settings = build(Settings, resolve("config", ["task=spiking-heidelberg-digits"]))
    sizes = {"num_embeddings": CHANNELS, "num_classes": WORDS}
    return build(ModelConfig, {**settings.model, **sizes}, "model."), settings


def synthetic(config: ModelConfig) -> Batch:
    """Return a batch without padding."""
    rng = np.random.default_rng(0)
    shape = (ROWS, LENGTH)
    return Batch(
        tokens=rng.integers(config.num_embeddings, size=shape).astype(np.int32),
        dt_ms=rng.exponential(0.1, shape).astype(np.float32),
        lengths=np.full(ROWS, LENGTH, np.int32),
        targets=np.eye(config.num_classes, dtype=np.float32)[:ROWS],
        weights=np.ones(ROWS, np.float32),
    )


def training(config: ModelConfig, settings: Settings, count: int) -> Callable[[], Any]:
    """Return a call that takes one step of `saccade train` on so many devices."""
    mesh = devices.make_mesh(replace(settings.system, devices=count))
    transform = optimizer.make_optimizer(settings.optimizer, STEPS)
    begun = train_state.create(initialize(config, jax.random.key(0)), transform)
    state = jax.device_put(begun, devices.replicated(mesh))
    recipe = settings.training
    step = train_state.make_train_step(
        Classifier(config, PRECISIONS[recipe.precision]),
        transform,
        recipe.label_smoothing,
        recipe.ema_decay,
        0,
        mesh,
    )
    batch = synthetic(config)

    def call() -> Any:
        nonlocal state
        state, tally = step(state, batch)
        return state, tally

    return call


def plain(config: ModelConfig, settings: Settings) -> Callable[[], Any]:
    """Return a call that takes one step of `benchmarks.plain_training`."""
    transform = optimizer.make_optimizer(settings.optimizer, STEPS)
    params = initialize(config, jax.random.key(0))["params"]
    held: Any = (params, transform.init(params), jnp.int32(0))
    step, batch = make_plain_step(config, transform), synthetic(config)

    def call() -> Any:
        nonlocal held
        held, loss = step(held, batch)
        return held, loss

    return call


def measure(budget_s: float) -> list[Case]:
    """Measure every case."""
    config, settings = published()
    calls = {PLAIN: plain(config, settings)}
    for count in sorted({1, len(jax.devices())}):
        name = f"saccade train, {count} device{'s' if count > 1 else ''}"
        calls[name] = training(config, settings, count)
    narrow = replace(settings.training, precision="bfloat16")
    settings = replace(settings, training=narrow)
    calls[f"{name}, bfloat16"] = training(config, settings, count)
    taken = interleave(calls, budget_s)
    seconds = {name: float(np.median(found)) for name, found in taken.items()}
    return [
        Case(
            name,
            ROWS * LENGTH / spent,
            seconds[PLAIN] / spent,
            ROWS * LENGTH / spent / REFERENCE,
            1e3 * spent,
        )
        for name, spent in seconds.items()
    ]


def table(cases: Sequence[Case]) -> Table:
    """Return the cases as a table."""
    shown = Table(title=f"shd/medium, {ROWS} × {LENGTH:,} tokens a step")
    shown.add_column("case")
    for heading in ("tokens/s", "to plain", "to 33k", "step ms"):
        shown.add_column(heading, justify="right")
    for case in cases:
        shown.add_row(
            case.name,
            f"{case.tokens_per_second:,.0f}",
            f"{case.ratio:.1f}×",
            f"{case.to_reference:.1f}×",
            f"{case.step_ms:.0f}",
        )
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--quick", action="store_true", help="end within two minutes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    devices.set_up_devices(published()[1].system)
    cases = measure(10.0 if options.quick else 60.0)
    Console().print(table(cases))
    if options.json:
        written = {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "cases": [case._asdict() for case in cases],
        }
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
