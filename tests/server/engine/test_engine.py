from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.errors import JaxRuntimeError
from jaxlib.version import __version__ as jaxlib_version

from saccade.server.engine.device import MOST, RestartLimiter
from saccade.server.engine.engine import Engine
from saccade.server.engine.errors import (
    AlreadyServed,
    BacklogFull,
    CanaryMismatch,
    DeviceLost,
    EngineFailed,
    NotReady,
    RowMismatch,
    SlotsExhausted,
    StaleLease,
    StillServed,
    UnknownServable,
)
from saccade.server.engine.lost_device import STICKY, loses_device
from saccade.server.engine.outputs import ExportedState, RowState
from saccade.server.engine.scheduler import Bucket
from tests.faults import Fault, Gate
from tests.toy import (
    BUCKETS,
    Recorder,
    chunk,
    running,
    toy_advance,
    toy_scores,
    toy_servable,
    wait_until,
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


def test_a_model_that_misses_its_canary_is_refused_by_name() -> None:
    with running(toy_servable("bad", wrong_by=0.5), toy_servable("good")) as (
        engine,
        _,
    ):
        with pytest.raises(CanaryMismatch) as refusal:
            engine.open("bad", INF)
        text = str(refusal.value)
        assert "bucket 1x1" in text
        assert f"cpu, jaxlib {jaxlib_version}" in text
        assert engine.health.failed
        assert not engine.health.ready
        assert "canary" not in engine.health.models["good"].reason
        engine.open("good", INF)


def test_a_single_wrong_bucket_is_found() -> None:
    def faulty(weights: Any, carry: Any, tokens: Any, dt_ms: Any, ticks: Any) -> Any:
        carry, logits = toy_advance(weights, carry, tokens, dt_ms, ticks)
        if tokens.shape[0] == 4:  # a fault that depends on the shape, in one row
            logits = logits.at[3].multiply(jnp.nan)
        return carry, logits

    with running(toy_servable(advance=faulty)) as (engine, _):
        assert "bucket 4x4" in engine.health.reason


def test_a_canary_is_compared_in_every_row_of_a_bucket_larger_than_the_pool() -> None:
    with running(slots=2) as (engine, _):
        assert engine.health.ready


def test_a_model_is_loaded_while_the_sessions_of_another_go_on() -> None:
    compiling, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        compiling.set()
        assert go_on.wait(20)
        return toy_advance(*arguments)

    with running() as (engine, recorder):
        old = engine.open("toy", INF)
        engine.submit(old, chunk([1, 3, 5]))
        loading = threading.Thread(
            target=engine.load, args=(toy_servable("new", slow),)
        )
        loading.start()
        assert compiling.wait(20)
        engine.submit(old, chunk([7]))
        recorder.wait(lambda: len(recorder.scores(old)) == 2)
        with pytest.raises(UnknownServable):
            engine.open("new", INF)
        go_on.set()
        loading.join(20)
        new = engine.open("new", INF)
        engine.submit(new, chunk([4, 4]))
        engine.submit(old, chunk([9, 9]))
        recorder.wait(lambda: len(recorder.scores(new)) == 1)
        recorder.wait(lambda: len(recorder.scores(old)) == 3)
        assert recorder.scores(new) == [4.0]
        assert recorder.scores(old) == toy_scores([1, 3, 5, 7, 9, 9])
        assert engine.health.models["new"].state == "ready"


def test_a_loaded_model_that_misses_its_canary_leaves_the_others_as_they_were() -> None:
    with running() as (engine, recorder):
        lease = engine.open("toy", INF)
        engine.submit(lease, chunk([1, 3, 5]))
        with pytest.raises(CanaryMismatch) as refusal:
            engine.load(toy_servable("bad", wrong_by=0.5))
        text = str(refusal.value)
        assert "model 'bad' refused: bucket 1x1" in text
        assert f"cpu, jaxlib {jaxlib_version}" in text
        assert engine.health.ready
        assert set(engine.health.models) == {"toy"}
        with pytest.raises(UnknownServable):
            engine.open("bad", INF)
        engine.submit(lease, chunk([7]))
        recorder.wait(lambda: len(recorder.scores(lease)) == 2)
        assert recorder.scores(lease) == [2.0, 7.0]
        engine.load(toy_servable("bad"))  # its name is free for a better one
        engine.open("bad", INF)


def test_a_name_that_is_taken_and_an_engine_that_stopped_take_no_model() -> None:
    with running() as (engine, _), pytest.raises(AlreadyServed):
        engine.load(toy_servable("toy"))
    with pytest.raises(NotReady):
        engine.load(toy_servable("late"))


def test_a_model_without_sessions_is_unloaded_and_may_be_loaded_again() -> None:
    with running(toy_servable("a"), toy_servable("b")) as (engine, recorder):
        lease = engine.open("b", INF)
        with pytest.raises(StillServed) as refusal:
            engine.unload("b")
        assert refusal.value.slots_used == 1
        engine.release(lease)
        engine.unload("b")
        wait_until(lambda: set(engine.health.models) == {"a"})
        for refused in (lambda: engine.open("b", INF), lambda: engine.unload("b")):
            with pytest.raises(UnknownServable):
                refused()
        engine.load(toy_servable("b"))
        again = engine.open("b", INF)
        engine.submit(again, chunk([4, 4]))
        recorder.wait(lambda: recorder.scores(again) == [4.0])


def test_two_versions_of_a_name_keep_their_sessions_apart() -> None:
    with running() as (engine, recorder):
        old = engine.open("toy", INF)
        engine.load(toy_servable()._replace(version="2"))
        new = engine.open("toy@2", INF)
        engine.submit(old, chunk([1, 3]))
        engine.submit(new, chunk([5, 7]))
        recorder.wait(lambda: recorder.scores(new) == [6.0])
        recorder.wait(lambda: recorder.scores(old) == [2.0])


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


def test_an_exception_on_the_device_fails_its_pool_s_sessions_and_no_other() -> None:
    fault = Fault()
    with running(
        toy_servable("a", fault.advance), toy_servable("b"), backlog_events=100
    ) as (engine, recorder):
        lost, other = engine.open("a", INF), engine.open("b", INF)
        engine.submit(lost, chunk([6, 6]))
        recorder.wait(lambda: recorder.scores(lost) == [6.0])
        fault.arm(1)
        engine.submit(lost, chunk([1, 1]))
        recorder.wait(lambda: bool(recorder.failures(lost)))
        assert isinstance(recorder.failures(lost)[0], EngineFailed)
        assert Fault.TEXT not in str(recorder.failures(lost)[0])
        engine.submit(other, chunk([1, 1]))
        recorder.wait(lambda: bool(recorder.scores(other)))
        assert recorder.failures(other) == []


def test_a_pool_that_failed_restarts_with_fresh_rows() -> None:
    fault = Fault()
    with running(toy_servable(advance=fault.advance), slots=2) as (engine, recorder):
        lost, beside = engine.open("toy", INF), engine.open("toy", INF)
        engine.submit(beside, chunk([9]))
        fault.arm(1)
        engine.submit(lost, chunk([8, 8] * 20))
        for lease in (lost, beside):
            recorder.wait(lambda: bool(recorder.failures(lease)))  # noqa: B023
            engine.release(lease)
        wait_until(lambda: engine.health.ready)
        assert recorder.failed_models == ["toy"]
        again = engine.open("toy", INF)
        engine.submit(again, chunk([1, 1] * 3))
        recorder.wait(lambda: len(recorder.scores(again)) == 3)
        assert recorder.scores(again) == [1.0, 1.5, 1.75]
        assert recorder.failures(again) == []


def test_a_device_that_stays_broken_is_given_up_and_no_session_hangs() -> None:
    fault = Fault()
    with running(toy_servable(advance=fault.advance)) as (engine, recorder):
        lease = engine.open("toy", INF)
        fault.arm(1000)  # the canary fails as well
        engine.submit(lease, chunk([1, 1]))
        recorder.wait(lambda: bool(recorder.failures(lease)))
        wait_until(lambda: engine.health.failed)
        with pytest.raises(EngineFailed):
            engine.open("toy", INF)
        engine.submit(lease, chunk([1, 1]))  # no hang: it fails again
        recorder.wait(lambda: len(recorder.failures(lease)) == 2)


def test_events_that_always_break_the_device_do_not_break_it_for_ever() -> None:
    fault = Fault(poison=666.0)
    with running(toy_servable(advance=fault.advance)) as (engine, recorder):
        for attempt in range(1, MOST + 2):
            lease = engine.open("toy", INF)
            engine.submit(lease, chunk([666, 666]))
            recorder.wait(lambda: bool(recorder.failures(lease)))  # noqa: B023
            engine.release(lease)
            wait_until(lambda: len(recorder.failed_models) == attempt)  # noqa: B023
            if attempt <= MOST:
                wait_until(lambda: engine.health.ready)
        wait_until(lambda: engine.health.failed)
        with pytest.raises(EngineFailed):
            engine.open("toy", INF)


def test_a_device_that_hangs_turns_health_red_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saccade.server.engine.health.HUNG_S", 0.2)
    gate = Gate()
    with running(toy_servable(advance=gate.advance)) as (engine, recorder):
        lease = engine.open("toy", INF)
        with gate:
            engine.submit(lease, chunk([6, 6]))
            wait_until(lambda: engine.health.failed)
            assert "the device has not answered for" in engine.health.reason
        recorder.wait(lambda: recorder.scores(lease) == [6.0])
        wait_until(lambda: engine.health.ready)


def test_restarts_are_limited_within_a_time() -> None:
    restarts = RestartLimiter(most=2, within_s=10.0)
    allowed = [restarts.allow("a", now_s) for now_s in (0.0, 1.0, 2.0, 10.5, 11.5)]
    assert allowed == [True, True, False, True, True]
    assert restarts.allow("b", 2.0)


def test_a_thread_that_dies_fails_every_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running() as (engine, recorder):
        lease = engine.open("toy", INF)

        def die(_: Any) -> None:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(engine.devices.members[0].device, "_read_scores", die)
        engine.submit(lease, chunk([1, 1]))
        recorder.wait(lambda: bool(recorder.failures(lease)))
        with pytest.raises(EngineFailed):
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


def test_a_lost_device_ends_the_engine_before_its_sessions_fail() -> None:
    fault, order = Fault(), []
    fault.TEXT = "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure"
    with running(toy_servable(advance=fault.advance)) as (engine, recorder):
        lease = engine.open("toy", INF)
        engine.when_lost(lambda: order.append(recorder.failures(lease)))
        fault.arm(1)
        engine.submit(lease, chunk([2, 4]))
        recorder.wait(lambda: bool(recorder.failures(lease)))
        assert order == [[]]
        assert isinstance(recorder.failures(lease)[0], DeviceLost)
        assert not recorder.failed_models, "it is not a failure of one model"
        assert engine.health.failed


def test_a_reload_that_loses_the_device_ends_the_engine_too() -> None:
    fault, lost = Fault(), threading.Event()
    fault.TEXT = "CUDA_ERROR_ASSERT: device-side assert triggered"
    with running() as (engine, _):
        engine.when_lost(lost.set)
        fault.arm(1)
        with pytest.raises(JaxRuntimeError):
            engine.load(toy_servable("other", advance=fault.advance))
        assert lost.wait(60)


@pytest.mark.parametrize(("name", "text"), STICKY.items())
def test_an_error_loses_the_device_by_its_name_or_its_text(
    name: str, text: str
) -> None:
    assert loses_device(JaxRuntimeError(f"INTERNAL: {name}"))
    assert loses_device(JaxRuntimeError(f"INTERNAL: CUDA error: {text}"))
    assert not loses_device(RuntimeError(name)), "no call of the device said so"
    assert not loses_device(JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"))
