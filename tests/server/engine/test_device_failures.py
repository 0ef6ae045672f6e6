"""What a device that fails, hangs or is lost does to the sessions on it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from jax.errors import JaxRuntimeError

from saccade.server.engine.device import MOST, RestartLimiter
from saccade.server.engine.errors import (
    DeviceLost,
    EngineFailed,
)
from saccade.server.engine.lost_device import STICKY, loses_device
from tests.faults import Fault, Gate
from tests.toy import (
    chunk,
    running,
    toy_servable,
    wait_until,
)

INF = float("inf")


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
