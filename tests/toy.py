"""A model whose scores can be worked out by hand, and its engine.

A tick is two events. Each tick halves the state and adds the mean of its tokens;
the scores are the state and its negative.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import TimestepConvention, TokenChunk, Tokenization
from saccade.server.engine.accelerators import NamedDevice
from saccade.server.engine.engine import Engine
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.model_registry import Canary, Servable, ServedModel
from saccade.server.engine.outputs import (
    DeviceOutput,
    EngineOutput,
    StreamFailed,
    TickScores,
)
from saccade.server.engine.scheduler import Batch, Bucket

TICK = 2
SENSOR = Sensor(4, 4)
TOKENIZATION = Tokenization("linear", SENSOR)
BUCKETS = (Bucket(1, 1), Bucket(1, 4), Bucket(4, 1), Bucket(4, 4))


def toy_advance(
    weights: Any, carry: Any, tokens: Any, dt_ms: Any, ticks: Any
) -> tuple[Any, Any]:
    inputs = tokens.reshape(tokens.shape[0], -1, TICK).mean(axis=-1) * weights

    def tick(state: Any, turn: Any) -> Any:
        k, drive = turn
        state = jnp.where(k < ticks, state / 2 + drive, state)
        return state, state

    turns = (jnp.arange(inputs.shape[1]), inputs.T)
    state, seen = jax.lax.scan(tick, carry["state"], turns)
    logits = jnp.stack([seen.T, -seen.T], axis=-1)
    return {"state": state, "half_life_ms": carry["half_life_ms"]}, logits


def toy_in_place(rows: int, sessions: int, ticks: int, *, keeps_lock: bool) -> Any:
    """Return the toy as calls on NumPy's arrays; see `backends.InPlace`."""
    state = 1  # its place in a row, after `half_life_ms`

    def call(
        weights: Any, pool: Any, which: Any, tokens: Any, dt_ms: Any, moving: Any
    ) -> Any:
        logits = np.zeros((sessions, ticks, 2), np.float32)
        for one in range(sessions):
            for k in range(moving[one]):
                drive = tokens[one, k * TICK : (k + 1) * TICK].mean(dtype=np.float32)
                pool[which[one], state] = pool[which[one], state] / 2 + drive * weights
                score = pool[which[one], state]
                logits[one, k:] = score, -score
        return logits

    return call


def toy_scores(tokens: list[int]) -> list[float]:
    """The toy's scores after each whole tick, worked out in plain Python."""
    state, seen = 0.0, []
    for k in range(len(tokens) // TICK):
        state = state / 2 + sum(tokens[k * TICK : (k + 1) * TICK]) / TICK
        seen.append(state)
    return seen


def toy_servable(
    name: str = "toy", advance: Callable[..., Any] = toy_advance, wrong_by: float = 0.0
) -> Servable:
    tokens = np.arange(1, 11, dtype=np.int32)
    last = toy_scores(tokens.tolist())[-1] + wrong_by
    return Servable(
        name=name,
        tick_events=TICK,
        classes=2,
        weights=jnp.float32(1.0),
        fresh=lambda half_life_ms: {
            "state": jnp.float32(0.0),
            "half_life_ms": half_life_ms,
        },
        advance=advance,
        canary=Canary(tokens, np.ones(10, np.float32), np.array([last, -last])),
    )


def toy_model(
    name: str = "toy", timestep: TimestepConvention = "preceding", **changes: Any
) -> ServedModel:
    """The toy as clients see it: a 4x4 sensor, tokens 0 to 31."""
    return ServedModel(
        servable=toy_servable(name, **changes),
        labels=("up", "down"),
        tokenization=TOKENIZATION,
        timestep=timestep,
        content_hash="0123abcd",
    )


def some_events(count: int, seed: int = 0, start_us: int = 0) -> Events:
    random = np.random.default_rng(seed)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = start_us + np.arange(count) * 10
    for field, limit in (("x", 4), ("y", 4), ("p", 2)):
        events[field] = random.integers(0, limit, count)
    return events


def event_scores(events: Events) -> list[float]:
    return toy_scores(TOKENIZATION.tokenize(events).tolist())


def chunk(tokens: list[int], t_us: int = 0) -> TokenChunk:
    n = len(tokens)
    return TokenChunk(
        np.array(tokens, np.int32),
        np.ones(n, np.float32),
        np.arange(t_us, t_us + n, dtype=np.int64),
    )


class Recorder:
    """Records what a front end receives and an engine observes, and waits for it."""

    frontend: Frontend

    def __init__(self) -> None:
        self.outputs: list[EngineOutput] = []
        self.batches: list[Batch] = []
        self.deliveries = 0
        self.failed_models: list[str] = []
        self.refused_models: list[str] = []
        self.changed = threading.Condition()

    def deliver(self, outputs: list[DeviceOutput]) -> None:
        with self.changed:
            self.outputs += self.frontend.receive(outputs)
            self.deliveries += 1
            self.changed.notify_all()

    def compiled(self, model: str, seconds: float) -> None:
        pass

    def canary_missed(self, model: str) -> None:
        self.refused_models.append(model)

    def failed(self, model: str) -> None:
        self.failed_models.append(model)

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        self.batches.append(batch)

    def scores(self, lease: Any) -> list[float]:
        return [
            float(row[0])
            for output in self.outputs
            if isinstance(output, TickScores) and output.lease == lease
            for row in output.logits
        ]

    def failures(self, lease: Any) -> list[Exception]:
        return [
            output.error
            for output in self.outputs
            if isinstance(output, StreamFailed) and output.lease == lease
        ]

    def wait(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds), "waited in vain"


class Threaded:
    """An engine and its front end, which tests use beside the thread that delivers."""

    def __init__(self, engine: Engine, recorder: Recorder) -> None:
        self._engine, self._recorder = engine, recorder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name, None)
        if found is not None:
            return found
        call = getattr(self._engine.frontend, name)

        def locked(*arguments: Any) -> Any:
            with self._recorder.changed:
                return call(*arguments)

        return locked


def wait_until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextmanager
def running(
    *servables: Servable,
    slots: int = 6,
    backlog_events: int = 1000,
    buckets: tuple[Bucket, ...] = (Bucket(1, 1), Bucket(4, 4)),
    devices: int = 1,
) -> Iterator[tuple[Any, Recorder]]:
    recorder = Recorder()
    models = servables or (toy_servable(),)
    here = jax.local_devices()[0]  # the tests' process has one: it is used twice
    named = [NamedDevice(f"cpu:{index}", here) for index in range(devices)]
    engine = Engine(models, slots, buckets, backlog_events, recorder, named)
    recorder.frontend = engine.frontend
    engine.start(recorder.deliver)
    try:
        wait_until(
            lambda: all(m.state != "starting" for m in engine.health.models.values())
        )
        yield Threaded(engine, recorder), recorder
    finally:
        engine.stop()
