"""The timed cases: the baseline, and the recurrent mode over sessions × ticks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.baseline import WINDOW_EVENTS, score_windows
from saccade.model.backends import BACKENDS, Backend
from saccade.model.classifier import Variables, fold, init_carry, initialize
from saccade.model.config import ModelConfig
from saccade.model.inference import Carry, Weights
from saccade.model.state_rows import RowLayout

BASELINE: Final = "stateless windows"
BASELINE_EVENTS: Final = 4096
CHUNKS: Final = (4096, 65536)
SESSIONS: Final = (8, 64, 256, 1024)
SESSION_TICKS: Final = (1, 16)
EVENT_RATE_PER_MS: Final = 100.0
DISTINCT_EVENTS: Final = 1 << 17
"""Calls cycle through so many events that no cache holds all their table rows."""


class Shape(NamedTuple):
    """The work of one call: a number of sessions, and of ticks in each."""

    sessions: int
    ticks: int

    def name(self, tick_events: int) -> str:
        """Return the shape's name in the tables."""
        if self.sessions == 1 and self.ticks > 1:
            return f"1 session, {self.ticks * tick_events:,}-event chunks"
        many = "session" if self.sessions == 1 else "sessions"
        ticks = "single ticks" if self.ticks == 1 else f"{self.ticks} ticks each"
        return f"{self.sessions:,} {many}, {ticks}"


class Case(NamedTuple):
    """One timed case.

    Attributes:
        name: The name in the tables.
        events: Events in one call.
        call: Makes one call and returns its result, which may not be ready yet.
    """

    name: str
    events: int
    call: Callable[[], Any]


class Model(NamedTuple):
    """A configuration with random weights."""

    config: ModelConfig
    variables: Variables
    weights: Weights
    fresh: Carry


def draw(config: ModelConfig) -> Model:
    """Return a model of this configuration with random weights."""
    variables = initialize(config, jax.random.key(0))
    fresh = init_carry(config, variables)
    return Model(config, variables, fold(config, variables), fresh)


def all_shapes(tick_events: int) -> list[Shape]:
    """Return every shape that is measured."""
    chunks = [Shape(1, events // tick_events) for events in CHUNKS]
    many = [Shape(rows, ticks) for ticks in SESSION_TICKS for rows in SESSIONS]
    return [Shape(1, 1), *chunks, *many]


def quick_shapes(tick_events: int) -> list[Shape]:
    """Return the few shapes that `--quick` measures."""
    return [Shape(1, 1), Shape(1, CHUNKS[0] // tick_events), Shape(8, 1), Shape(64, 1)]


def cases(model: Model, shapes: list[Shape], backend: str = "fastest") -> list[Case]:
    """Return the baseline first, then the recurrent mode on one of `BACKENDS`."""
    baseline = Case(BASELINE, BASELINE_EVENTS, _baseline(model))
    return [baseline, *recurrent_cases(model, shapes, backend)]


def recurrent_cases(model: Model, shapes: list[Shape], backend: str) -> list[Case]:
    """Return the recurrent mode's cases on one of `BACKENDS`."""
    tick_events = model.config.tick_events
    chosen = BACKENDS[backend](model.config, model.weights)
    return [
        Case(
            shape.name(tick_events),
            shape.sessions * shape.ticks * tick_events,
            _advancing(model, chosen, shape),
        )
        for shape in shapes
    ]


def _baseline(model: Model) -> Callable[[], Any]:
    windows = BASELINE_EVENTS // WINDOW_EVENTS
    batches = _events(model.config, windows, WINDOW_EVENTS)
    score = jax.jit(partial(score_windows, model.config))

    def call() -> Any:
        return score(model.variables, *next(batches))

    return call


def _advancing(model: Model, backend: Backend, shape: Shape) -> Callable[[], Any]:
    """Return a call that moves the rows of a pool from call to call."""
    config, rows = model.config, shape.sessions
    batches = _events(config, rows, shape.ticks * config.tick_events)
    layout = RowLayout(model.fresh)
    pool = jnp.stack([layout.to_rows(model.fresh)] * rows)
    places = jnp.arange(rows, dtype=jnp.int32)
    moving = jnp.full(rows, shape.ticks, jnp.int32)
    move = jax.jit(backend.in_rows(config, layout), donate_argnums=1)

    def call() -> Any:
        nonlocal pool
        pool, logits = move(backend.weights, pool, places, *next(batches), moving)
        return logits

    return call


def _events(
    config: ModelConfig, rows: int, length: int
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """Return an endless iterator of tokens and gaps, one pair for each call."""
    rng = np.random.default_rng(0)
    size = (max(DISTINCT_EVENTS // (rows * length), 1), rows, length)
    tokens = rng.integers(config.num_embeddings, size=size, dtype=np.int32)
    dt_ms = rng.exponential(1 / EVENT_RATE_PER_MS, size=size).astype(np.float32)
    return cycle([*zip(map(jnp.asarray, tokens), map(jnp.asarray, dt_ms), strict=True)])
