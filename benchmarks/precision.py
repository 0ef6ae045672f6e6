"""Benchmark of precision: the drift of a float32 stream from a float64 one.

    python -m benchmarks.precision [--events N] [--json PATH]

Each published configuration, with random weights, scores 2^20 events with the server's
`advance` in float32, and with `benchmarks.sequential`, event by event in float64. The
error is the largest of any class, relative to the largest score.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.sequential import Network
from saccade.model.backends import fastest
from saccade.model.classifier import fold, init_carry, initialize
from saccade.model.config import ModelConfig
from saccade.model.upstream.recipes import presets, recipe

EVENTS: Final = 1 << 20
FIRST_MARK: Final = 1 << 12
CALL_EVENTS: Final = 1 << 12
EVENT_RATE_PER_MS: Final = 100.0


class Row(NamedTuple):
    """One configuration's error after a number of events."""

    model: str
    events: int
    error: float


def measure(name: str, config: ModelConfig, events: int) -> Iterator[Row]:
    """Stream in both precisions; yield a row at each power of four, and at the end."""
    variables = initialize(config, jax.random.key(0))
    served = fastest(config, fold(config, variables))
    move = jax.jit(partial(served.advance, config), donate_argnums=1)
    carry = jax.tree.map(lambda x: jnp.asarray(x)[None], init_carry(config, variables))
    exact = Network(config, variables)
    done, mark = 0, FIRST_MARK
    for tokens, dt_ms in _stream(config, events):
        ticks = np.asarray([len(tokens) // config.tick_events], np.int32)
        carry, logits = move(served.weights, carry, tokens[None], dt_ms[None], ticks)
        truth = exact.feed(tokens, dt_ms.astype(np.float64))
        done += len(tokens)
        if done >= min(mark, events):
            deviation = np.abs(np.asarray(logits[0, -1], np.float64) - truth).max()
            yield Row(name, done, float(deviation / np.abs(truth).max()))
            mark *= 4


def _stream(
    config: ModelConfig, events: int
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    size = max(CALL_EVENTS, config.tick_events) // config.tick_events
    size *= config.tick_events
    for _ in range(events // size):
        tokens = rng.integers(config.num_embeddings, size=size, dtype=np.int32)
        gaps_us = rng.exponential(1e3 / EVENT_RATE_PER_MS, size).astype(np.int64)
        yield tokens, (gaps_us / 1000).astype(np.float32)


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table, one line a configuration."""
    marks = sorted({row.events for row in rows})
    shown = Table(title=f"float32 against float64, {jax.devices()[0].device_kind}")
    shown.add_column("model")
    for mark in marks:
        shown.add_column(f"{mark:,} events", justify="right")
    for model in dict.fromkeys(row.model for row in rows):
        errors = {row.events: f"{row.error:.1e}" for row in rows if row.model == model}
        shown.add_row(model, *(errors.get(mark, "") for mark in marks))
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision")
    parser.add_argument("--events", type=int, default=EVENTS, help="how many events")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args(argv)
    rows = [
        row
        for name in presets()
        for row in measure(name, recipe(name).config, options.events)
    ]
    Console().print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([row._asdict() for row in rows]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
