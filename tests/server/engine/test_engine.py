from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import jax
import numpy as np
import pytest

from saccade.server.engine.engine import Engine
from saccade.server.engine.errors import (
    BacklogFull,
    NotReady,
    RowMismatch,
    SlotsExhausted,
    StaleLease,
    UnknownServable,
)
from saccade.server.engine.outputs import ExportedState, RowState
from saccade.server.engine.scheduler import Bucket
from tests.toy import (
    BUCKETS,
    Recorder,
    chunk,
    running,
    toy_advance,
    toy_scores,
    toy_servable,
)

INF = float("inf")
Running = tuple[Any, Recorder]


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """An engine for the tests that leave it intact."""
    with running(slots=6, buckets=BUCKETS) as pair:
        yield pair


@pytest.fixture
def healthy(shared: Running) -> Iterator[Running]:
    engine, recorder = shared
    recorder.outputs.clear()
    recorder.batches.clear()
    recorder.deliveries = 0
    yield shared
    for resident in [*engine.frontend._models["toy"].residents.values()]:
        engine.release(resident.lease)


def test_a_session_is_scored_after_each_whole_tick(healthy: Running) -> None:
    engine, recorder = healthy
    lease = engine.open("toy", INF)
    engine.submit(lease, chunk([1, 3, 5], t_us=10))
    engine.submit(lease, chunk([7, 9], t_us=13))
    recorder.wait(lambda: len(recorder.scores(lease)) == 2)
    assert recorder.scores(lease) == [2.0, 7.0]
    ends = [t for output in recorder.outputs for t in output.t_us.tolist()]
    assert ends == [11, 13]


def test_the_scores_do_not_depend_on_how_the_stream_is_cut(healthy: Running) -> None:
    tokens = list(range(200))
    engine, recorder = healthy
    for size in (1, 7, 64, 200):
        lease = engine.open("toy", INF)
        for start in range(0, 200, size):
            engine.submit(lease, chunk(tokens[start : start + size]))
        recorder.wait(lambda: len(recorder.scores(lease)) == 100)  # noqa: B023
        assert np.allclose(recorder.scores(lease), toy_scores(tokens))
        engine.release(lease)


def test_nothing_is_compiled_once_the_engine_is_ready(healthy: Running) -> None:
    compiled: list[str] = []

    def listen(event: str, _seconds: float, **_: Any) -> None:
        if "compile" in event:
            compiled.append(event)

    engine, recorder = healthy
    jax.monitoring.register_event_duration_secs_listener(listen)
    leases = [engine.open("toy", 10.0 * n) for n in range(1, 7)]
    for n, lease in enumerate(leases):
        for _ in range(n):
            engine.submit(lease, chunk([1, 2] * (3 * n + 1)))
        engine.submit(lease, chunk([n]))
    renewed = engine.reset(leases[0], INF)
    engine.submit(renewed, chunk([1, 1]))
    recorder.wait(lambda: len(recorder.scores(renewed)) == 1)
    recorder.wait(lambda: len(recorder.scores(leases[5])) >= 80)
    assert len({batch.bucket for batch in recorder.batches}) > 1
    assert compiled == []
    jax.jit(lambda x: x * 3)(np.ones(3))
    assert compiled, "the listener is called"


def test_a_reset_forgets_what_was_seen(healthy: Running) -> None:
    engine, recorder = healthy
    lease = engine.open("toy", INF)
    engine.submit(lease, chunk([100, 100, 50]))
    renewed = engine.reset(lease, INF)
    engine.submit(renewed, chunk([2, 4]))
    recorder.wait(lambda: bool(recorder.scores(renewed)))
    assert recorder.scores(renewed) == [3.0]
    with pytest.raises(StaleLease):
        engine.submit(lease, chunk([1]))


def test_a_session_never_receives_the_scores_of_its_slot_s_session_before() -> None:
    with running(slots=1) as (engine, recorder):
        first = engine.open("toy", INF)
        engine.submit(first, chunk([8, 8] * 40))
        engine.release(first)
        second = engine.open("toy", INF)
        assert second.slot == first.slot
        engine.submit(second, chunk([1, 1] * 3))
        recorder.wait(lambda: len(recorder.scores(second)) == 3)
        assert recorder.scores(second) == [1.0, 1.5, 1.75]


def test_a_full_pool_and_an_unknown_model_are_typed_errors() -> None:
    with running(slots=1) as (engine, _):
        engine.open("toy", INF)
        with pytest.raises(SlotsExhausted):
            engine.open("toy", INF)
        with pytest.raises(UnknownServable):
            engine.open("none", INF)


def test_a_batch_wakes_the_caller_once(healthy: Running) -> None:
    engine, recorder = healthy
    leases = [engine.open("toy", INF) for _ in range(4)]
    for lease in leases:
        engine.submit(lease, chunk([1, 1]))
    recorder.wait(lambda: all(recorder.scores(lease) for lease in leases))
    assert recorder.deliveries == len(recorder.batches)


def test_a_backlog_over_its_bound_fails_that_session_alone() -> None:
    with running(backlog_events=10) as (engine, recorder):
        greedy, modest = engine.open("toy", INF), engine.open("toy", INF)
        engine.submit(greedy, chunk([1] * 11))
        engine.submit(modest, chunk([1, 1]))
        recorder.wait(lambda: bool(recorder.scores(modest)))
        assert isinstance(recorder.failures(greedy)[0], BacklogFull)
        assert engine.health.ready


def test_two_models_share_the_thread() -> None:
    def negative(*arguments: Any) -> Any:
        carry, logits = toy_advance(*arguments)
        return carry, -logits

    minus = toy_servable("minus", negative)
    minus = minus._replace(canary=minus.canary._replace(logits=-minus.canary.logits))
    with running(toy_servable("plus"), minus) as (engine, recorder):
        plus_lease, minus_lease = engine.open("plus", INF), engine.open("minus", INF)
        for lease in (plus_lease, minus_lease):
            engine.submit(lease, chunk([2, 2]))
        recorder.wait(lambda: bool(recorder.scores(minus_lease)))
        recorder.wait(lambda: bool(recorder.scores(plus_lease)))
        assert recorder.scores(plus_lease) == [2.0]
        assert recorder.scores(minus_lease) == [-2.0]


def test_before_it_is_ready_the_engine_gives_the_reason() -> None:
    engine = Engine([toy_servable()], 2, BUCKETS, 100, Recorder())
    assert not engine.health.ready
    assert "starting" in engine.health.reason
    with pytest.raises(NotReady):
        engine.frontend.open("toy", INF)


def test_after_a_stop_no_session_opens() -> None:
    with running() as (engine, _):
        pass
    assert engine.health.models["toy"].state == "stopped"
    with pytest.raises(NotReady):
        engine.open("toy", INF)


def test_a_row_that_is_exported_and_restored_goes_on_to_the_same_scores() -> None:
    tokens = list(range(1, 30))
    rows: list[Any] = []
    with running() as (engine, recorder):
        first = engine.open("toy", float("inf"))
        engine.submit(first, chunk(tokens[:13]))
        engine.export(first, rows.append)
        recorder.wait(
            lambda: any(isinstance(o, ExportedState) for o in recorder.outputs)
        )
        (exported,) = (o for o in recorder.outputs if isinstance(o, ExportedState))
        before = takewhile(lambda o: o is not exported, recorder.outputs)
        ticks = sum(len(o.logits) for o in before)
        assert 2 * ticks + len(exported.row.waiting.tokens) == 13
        engine.release(first)
        neighbour = engine.open("toy", float("inf"))
        engine.submit(neighbour, chunk([7] * 40))
        second = engine.restore("toy", exported.row)
        engine.submit(second, chunk(tokens[13:]))
        recorder.wait(lambda: ticks + len(recorder.scores(second)) == len(tokens) // 2)
        scores = recorder.scores(second)
    assert scores == pytest.approx(toy_scores(tokens)[ticks:])


def test_a_row_comes_after_its_own_ticks_and_before_later_ones() -> None:
    with running(buckets=(Bucket(1, 1),)) as (engine, recorder):
        lease = engine.open("toy", float("inf"))
        for _ in range(20):
            engine.submit(lease, chunk([3, 5] * 7))
            engine.export(lease, lambda row: None)
        recorder.wait(lambda: len(recorder.scores(lease)) == 140)
        scored = 0
        for output in recorder.outputs:
            if isinstance(output, ExportedState):
                state = {float(leaf) for leaf in output.row.leaves}
                expected = toy_scores([3, 5] * scored)[-1:] or [0.0]
                assert any(value == pytest.approx(expected[0]) for value in state)
                assert (scored * 2 + len(output.row.waiting.tokens)) % 14 == 0
            else:
                scored += len(output.logits)


def test_a_row_of_another_form_fails_its_session_alone() -> None:
    with running() as (engine, recorder):
        good = engine.open("toy", float("inf"))
        row = RowState((np.zeros(3, np.float32),), chunk([]))
        bad = engine.restore("toy", row)
        recorder.wait(lambda: bool(recorder.failures(bad)))
        assert isinstance(recorder.failures(bad)[0], RowMismatch)
        engine.submit(good, chunk([1, 2]))
        recorder.wait(lambda: recorder.scores(good) == [1.5])
        assert engine.health.ready
