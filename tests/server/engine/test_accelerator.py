"""The engine on a device whose calls cost their launch: a fake one, in its own time."""

from __future__ import annotations

from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from saccade.model.state_rows import RowLayout
from saccade.server.engine import compiled, device, engine, pool
from saccade.server.engine.compiled import EXPORT_ROWS, Executables
from saccade.server.engine.engine import Engine
from saccade.server.engine.in_flight import InFlight
from saccade.server.engine.scheduler import (
    ACCELERATOR_BUCKETS,
    ACCELERATOR_LAUNCH_COST,
    CPU_BUCKETS,
    IN_PLACE_BUCKETS,
    MOST_EVENTS,
    MOST_LAUNCH_COST,
    Batch,
    Bucket,
    Scheduler,
    buckets_for,
    fit_launch_cost,
)
from saccade.server.engine.slots import packed_size
from tests.toy import TICK, Recorder, chunk, toy_servable

ROW_TICK_S = 0.54e-6
LAUNCH_S = 0.3e-3 - 64 * ROW_TICK_S
"""A call of 64x1 takes 0.3 ms; a row's tick is as estimated for dvs/small."""
SESSIONS = 64


class Scores:
    """A call's scores, which are there once the device has run it."""

    def __init__(self, there: FakeDevice, bucket: Bucket) -> None:
        self._there = there
        self._scores = np.zeros((*bucket, 2), np.float32)
        begun_s = max(there.now_s, there.busy_until_s)
        self._done_s = begun_s + there.seconds(bucket)
        there.busy_until_s = self._done_s

    def is_ready(self) -> bool:
        return self._there.now_s >= self._done_s

    def copy_to_host_async(self) -> None:
        pass

    def __array__(self, *_: Any, **__: Any) -> Any:
        self._there.now_s = max(self._there.now_s, self._done_s)
        return self._scores


class FakeDevice:
    """A device that runs one call after another, and the only clock there is."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.busy_until_s = 0.0

    def seconds(self, bucket: Bucket) -> float:
        return LAUNCH_S + ROW_TICK_S * bucket.rows * bucket.ticks

    def executables(self, buckets: tuple[Bucket, ...], width: int) -> Executables:
        def run(bucket: Bucket, _: Any, rows: Any, words: Any) -> tuple[Any, Scores]:
            assert len(words) == packed_size(bucket, TICK)
            return rows, Scores(self, bucket)

        layout = RowLayout(jax.eval_shape(toy_servable().fresh, np.float32(0)))
        assert layout.width == width
        return Executables(
            layout=layout,
            fresh=lambda _: np.zeros(width, np.float32),
            insert=lambda rows, *_: rows,
            extract={size: lambda rows, which: rows[which] for size in EXPORT_ROWS},
            advance={bucket: partial(run, bucket) for bucket in buckets},
        )


class Timed(Recorder):
    """Records how long each batch took from its launch to its scores."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        super().ran(model, batch, seconds)
        self.seconds.append(seconds)


class Rig:
    """An engine on the fake device, whose steps the test takes itself."""

    def __init__(self, there: FakeDevice) -> None:
        self.recorder = Timed()
        self.engine = Engine([toy_servable()], SESSIONS, None, 1000, self.recorder)
        self.recorder.frontend = self.engine.frontend
        self.thread = self.engine.devices.members[0].device
        self.thread.connect(0, self.recorder.deliver)
        self.thread._prepare_all()
        self.flight: InFlight | None = None
        self.launch_cost = self.thread.pools["toy"]._scheduler.launch_cost

    def open(self, count: int) -> list[Any]:
        return [self.engine.frontend.open("toy", np.inf) for _ in range(count)]

    def tick(self, leases: list[Any]) -> None:
        for lease in leases:
            self.engine.frontend.submit(lease, chunk([1, 1]))

    def step(self) -> None:
        if self.flight is None:
            self.thread._work.put(lambda: None)
        self.thread._take_work(idle=False)
        self.flight = self.thread._step(self.flight)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    there = FakeDevice()

    def compile_all(_: Any, slots: int, buckets: Any, progress: Any) -> Any:
        rows = np.zeros((slots + 1, 2), np.float32)
        return there.executables(buckets, 2), rows

    def play_canary(_: Any, __: Any, rows: Any) -> Any:
        return rows, compiled.CanaryResult("float32", 0.0)

    def read() -> float:
        return there.now_s

    clock = SimpleNamespace(perf_counter=read, monotonic=read)
    card = SimpleNamespace(platform="cuda")
    monkeypatch.setattr(
        engine, "_placed", lambda servable, _, **__: servable._replace(device=card)
    )
    for module in (pool, device, compiled):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(pool, "compile_all", compile_all)
    monkeypatch.setattr(pool, "play_canary", play_canary)
    return Rig(there)


def test_what_a_launch_costs_is_learned_from_the_canary_s_calls(rig: Rig) -> None:
    assert rig.launch_cost == pytest.approx(LAUNCH_S / ROW_TICK_S)


@pytest.mark.parametrize("count", [20, 40, 64])
def test_sessions_with_a_tick_each_are_one_call(rig: Rig, count: int) -> None:
    rig.tick(rig.open(count))
    for _ in range(3):
        rig.step()
    (batch,) = rig.recorder.batches
    assert batch.bucket == Bucket(64, 1)
    assert len(batch.slots) == count
    assert rig.recorder.seconds[0] <= 0.6e-3


def test_from_launch_to_scores_64_sessions_wait_for_two_calls_at_most(
    rig: Rig,
) -> None:
    """A call runs while the one before is delivered; no third one waits behind."""
    leases = rig.open(SESSIONS)
    halves = leases[::2], leases[1::2]
    for turn in range(40):
        rig.tick(halves[turn % 2] if turn < 20 else leases)
        rig.step()
    assert len(rig.recorder.batches) >= 30
    assert max(rig.recorder.seconds) <= 0.6e-3 + 1e-9


def test_shapes_are_those_of_the_device_cut_to_slots_and_events() -> None:
    assert buckets_for("cpu", 256, 256) == tuple(sorted(CPU_BUCKETS))
    short = buckets_for("cpu", 256, 64)
    assert {*short} - {*CPU_BUCKETS} == {Bucket(8, 16), Bucket(64, 4)}
    more = buckets_for("cpu", 256, 64, in_place=True)
    assert {*more} - {*short} == {*IN_PLACE_BUCKETS}
    for tick_events, in_place in product((1, 64, 100, 256, 1024), (False, True)):
        for rows, ticks in buckets_for("cpu", 256, tick_events, in_place=in_place):
            assert rows * ticks * tick_events <= 64 * max(tick_events, 256)
    assert buckets_for("cuda", 1024, 256) == tuple(sorted(ACCELERATOR_BUCKETS))
    few = buckets_for("cuda", 100, 256)
    assert max(bucket.rows for bucket in few) == 100
    assert Bucket(100, 1) in few
    for tick_events in (1, 256, 1024, 65_536):
        for rows, ticks in buckets_for("cuda", 5000, tick_events):
            assert rows * ticks * tick_events <= MOST_EVENTS
    assert buckets_for("cuda", 64, 1 << 20) == (Bucket(1, 1),)


def test_a_line_that_makes_no_sense_gives_the_device_s_usual_cost() -> None:
    shapes = [Bucket(1, 1), Bucket(16, 1), Bucket(64, 1)]
    for times in ([3.0, 2.0, 1.0], [0.0, 1.0, 9.0], [float("nan")] * 3):
        assert fit_launch_cost(dict(zip(shapes, times, strict=True)), 7.0) == 7.0
    assert fit_launch_cost(dict.fromkeys(shapes[:2], 1.0), 7.0) == 7.0
    nearly = {shape: 1.0 + 1e-9 * shape.rows for shape in shapes}
    assert fit_launch_cost(nearly, 7.0) == MOST_LAUNCH_COST


@pytest.mark.parametrize("count", [20, 40])
def test_without_a_measurement_they_are_one_call_too(count: int) -> None:
    scheduler = Scheduler(ACCELERATOR_BUCKETS, 100, ACCELERATOR_LAUNCH_COST)
    for slot in range(count):
        scheduler.add(slot, 1)
    batch = scheduler.next_batch()
    assert batch is not None
    assert len(batch.slots) == count
