"""Events per second of the jitted recurrent mode, against windows without memory.

    python -m benchmarks.engine [--quick] [--json PATH]

The baseline scores 256-event windows, each from a zero state (`benchmarks.baseline`).
Ours keeps the state: one stream in single ticks and in 4,096-event chunks, and many
sessions of one tick each. All cases of a configuration are timed in turn in one run,
and the ratio is theirs to the baseline's median in that run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import WINDOW_EVENTS, score_windows
from benchmarks.configurations import CONFIGURATIONS
from benchmarks.timing import Seconds, interleave
from model.classifier import initialize
from model.config import ModelConfig
from model.network import Carry, Weights
from model.streaming import advance, fold, init_carry

CHUNK_EVENTS: Final = 4096
SESSIONS: Final = (8, 64)
EVENT_RATE_PER_MS: Final = 100.0
BASELINE: Final = "stateless windows"


class Case(NamedTuple):
    """One way to take events.

    Attributes:
        name: As shown.
        events: Taken in one call.
        call: Makes the call and returns what to wait for.
    """

    name: str
    events: int
    call: Callable[[], Any]


class Row(NamedTuple):
    """One line of the result; rates in events/s, latencies of one call in ms."""

    model: str
    case: str
    events_per_second: float
    ratio: float
    p50_ms: float
    p99_ms: float


def cases(config: ModelConfig) -> list[Case]:
    """Return the baseline first, then ours."""
    variables = initialize(config, jax.random.key(0))
    weights, fresh = fold(config, variables), init_carry(config, variables)
    tick = config.tick_events
    shapes = [
        ("1 session, single ticks", 1, 1),
        (f"1 session, {CHUNK_EVENTS}-event chunks", 1, CHUNK_EVENTS // tick),
        *((f"{rows} sessions, single ticks", rows, 1) for rows in SESSIONS),
    ]
    ours = [
        Case(name, rows * ticks * tick, _advancing(config, weights, fresh, rows, ticks))
        for name, rows, ticks in shapes
    ]
    windows = CHUNK_EVENTS // WINDOW_EVENTS
    tokens, dt_ms = _events(config, windows, WINDOW_EVENTS)
    score = jax.jit(partial(score_windows, config))
    baseline = partial(score, variables["params"], tokens, dt_ms)
    return [Case(BASELINE, CHUNK_EVENTS, baseline), *ours]


def _events(config: ModelConfig, rows: int, length: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(config.num_embeddings, size=(rows, length))
    dt_ms = rng.exponential(1 / EVENT_RATE_PER_MS, size=(rows, length))
    return jnp.asarray(tokens, jnp.int32), jnp.asarray(dt_ms, jnp.float32)


def _advancing(
    config: ModelConfig, weights: Weights, fresh: Carry, rows: int, ticks: int
) -> Callable[[], Any]:
    """Return a call that moves its sessions on from where the last call left them."""
    tokens, dt_ms = _events(config, rows, ticks * config.tick_events)
    carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * rows), fresh)
    moving = jnp.full(rows, ticks, jnp.int32)
    move = jax.jit(partial(advance, config), donate_argnums=1)

    def call() -> Any:
        nonlocal carry
        carry, logits = move(weights, carry, tokens, dt_ms, moving)
        return logits

    return call


def measure(model: str, config: ModelConfig, budget_s: float) -> list[Row]:
    """Measure one configuration."""
    measured = cases(config)
    taken = interleave({case.name: case.call for case in measured}, budget_s)
    rates = {c.name: c.events / float(np.median(taken[c.name])) for c in measured}
    return [
        Row(model, name, rate, rate / rates[BASELINE], *_latency(taken[name]))
        for name, rate in rates.items()
    ]


def _latency(seconds: Seconds) -> tuple[float, float]:
    p50, p99 = 1e3 * np.percentile(seconds, [50, 99])
    return float(p50), float(p99)


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table."""
    shown = Table(title=f"events per second, {jax.devices()[0].device_kind}")
    shown.add_column("model")
    shown.add_column("case")
    for heading in ("events/s", "ratio", "p50 ms", "p99 ms"):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(
            row.model,
            row.case,
            f"{row.events_per_second:,.0f}",
            f"{row.ratio:.1f}×",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
        )
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    rows = [
        row
        for model, config in CONFIGURATIONS.items()
        for row in measure(model, config, 5.0 if options.quick else 60.0)
    ]
    Console().print(table(rows))
    if options.json:
        written = {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "cases": [row._asdict() for row in rows],
        }
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
