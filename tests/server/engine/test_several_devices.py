"""An engine of several devices: every session on one, and none mixed with another's."""

from __future__ import annotations

import time

import numpy as np
import pytest

from saccade.server.engine.commands import Insert, Release, Submit
from saccade.server.engine.device_group import split
from saccade.server.engine.device_placement import LAG_STEP_S, DevicePlacement
from saccade.server.engine.errors import EngineFailed, SlotsExhausted
from saccade.server.engine.health import HUNG_S, Health, ModelHealth, merged_health
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import ExportedState
from tests.faults import Fault
from tests.toy import chunk, running, toy_scores, toy_servable, wait_until

INF = float("inf")
SLOTS = 3
TWO = (range(SLOTS), range(SLOTS, 2 * SLOTS))


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def device_of(lease: Lease) -> int:
    return lease.slot // SLOTS


def test_sessions_take_turns_on_the_devices_until_all_are_full() -> None:
    with running(slots=SLOTS, devices=2) as (engine, recorder):
        leases = [engine.open("toy", INF) for _ in range(2 * SLOTS)]
        assert [device_of(lease) for lease in leases] == [0, 1, 0, 1, 0, 1]
        with pytest.raises(SlotsExhausted, match="all 6 slots"):
            engine.open("toy", INF)
        tokens = {lease: [*range(k, 40 + 3 * k)] for k, lease in enumerate(leases)}
        for lease in leases:
            engine.submit(lease, chunk(tokens[lease]))
        for lease in leases:
            expected = toy_scores(tokens[lease])
            recorder.wait(lambda: len(recorder.scores(lease)) == len(expected))  # noqa: B023
            assert np.allclose(recorder.scores(lease), expected)
        use = engine.use
        assert [one.name for one in use] == ["cpu:0", "cpu:1"]
        assert [one.slots_used for one in use] == [SLOTS, SLOTS]
        assert all(one.batches and one.batch_s > 0 for one in use)
        ticks = sum(len(each) // 2 for each in tokens.values())
        assert sum(one.events for one in use) == 2 * ticks
        for lease in leases:
            engine.release(lease)
        assert engine.slots_used("toy") == 0


def test_a_row_leaves_one_device_and_goes_on_with_another() -> None:
    tokens = [*range(60)]
    with running(slots=SLOTS, devices=2) as (engine, recorder):
        other, lease = engine.open("toy", INF), engine.open("toy", INF)
        assert (device_of(other), device_of(lease)) == (0, 1)
        rows: list[ExportedState] = []
        engine.submit(lease, chunk(tokens[:31]))
        recorder.wait(lambda: len(recorder.scores(lease)) == 15)
        engine.export(lease, lambda _: None)

        def exported() -> bool:
            rows[:] = [o for o in recorder.outputs if isinstance(o, ExportedState)]
            return bool(rows)

        recorder.wait(exported)
        engine.release(other)
        again = engine.restore("toy", rows[0].row)
        assert device_of(again) == 0
        engine.submit(again, chunk(tokens[31:]))
        recorder.wait(lambda: len(recorder.scores(again)) == 15)
        assert np.allclose(recorder.scores(again), toy_scores(tokens)[15:])


def test_what_fails_on_one_device_does_not_touch_the_other() -> None:
    fault = Fault(poison=50.0)
    with running(toy_servable(advance=fault.advance), slots=SLOTS, devices=2) as (
        engine,
        recorder,
    ):
        well, ill = engine.open("toy", INF), engine.open("toy", INF)
        engine.submit(ill, chunk([50, 50]))
        recorder.wait(lambda: bool(recorder.failures(ill)))
        engine.submit(well, chunk([2, 4]))
        recorder.wait(lambda: bool(recorder.scores(well)))
        assert [one.failures for one in engine.use] == [0, 1]
        assert not recorder.failures(well)


def test_a_model_that_one_device_has_lost_is_served_by_the_other() -> None:
    fault = Fault(poison=50.0)
    with running(toy_servable(advance=fault.advance), slots=SLOTS, devices=2) as (
        engine,
        recorder,
    ):
        engine.open("toy", INF)
        engine.devices.members[1].device._restarts._most = 0
        ill = engine.open("toy", INF)
        engine.submit(ill, chunk([50, 50]))
        recorder.wait(lambda: bool(recorder.failures(ill)))
        health = engine.health
        assert health.ready
        assert health.lost == {"toy": (1,)}
        assert "cpu:1" in health.concerns[0]
        assert [device_of(engine.open("toy", INF)) for _ in range(2)] == [0, 0]
        with pytest.raises(SlotsExhausted):
            engine.open("toy", INF)


def test_a_model_is_added_to_and_removed_from_all_devices() -> None:
    with running(slots=SLOTS, devices=2) as (engine, recorder):
        engine.load(toy_servable("new"))
        leases = [engine.open("new", INF) for _ in range(2)]
        for lease in leases:
            engine.submit(lease, chunk([2, 4]))
            recorder.wait(lambda: recorder.scores(lease) == [3.0])  # noqa: B023
            engine.release(lease)
        assert {device_of(lease) for lease in leases} == {0, 1}
        engine.unload("new")
        for one in engine.devices.members:
            wait_until(lambda: "new" not in one.device.pools)  # noqa: B023


def test_commands_keep_their_order_on_each_device() -> None:
    low, high = Lease("toy", 1, 7), Lease("toy", SLOTS + 2, 9)
    pages = Submit("toy", ints(5, 1, 5), np.array([9, 7, 9]), ints(0, 1, 2))
    first, second = split(
        [Insert(low, 1.0), Insert(high, 2.0), pages, Release(high)], SLOTS, 2
    )
    assert first[0] == Insert(low, 1.0)
    assert (first[1].slots.tolist(), first[1].pages.tolist()) == ([1], [1])
    assert second[0] == Insert(Lease("toy", 2, 9), 2.0)
    assert (second[1].slots.tolist(), second[1].pages.tolist()) == ([2, 2], [0, 2])
    assert second[2] == Release(Lease("toy", 2, 9))


def test_front_ends_that_begin_elsewhere_do_not_fill_the_same_device() -> None:
    assert [DevicePlacement(TWO, first).order()[0] for first in range(3)] == [0, 1, 0]


def test_a_device_that_lags_gets_no_session_though_it_has_fewest() -> None:
    now_s = 0.0
    placement = DevicePlacement(TWO, clock=lambda: now_s)
    placement.leased(3)
    placement.leased(4)
    assert placement.order() == [0, 1]
    placement.sent(0, 1000)
    now_s = 1.0
    placement.back(ints(0), ints(1000))  # a thousand events a second
    placement.sent(0, int(900 * LAG_STEP_S))
    assert placement.order() == [0, 1], "that is scored soon"
    placement.sent(0, int(1100 * LAG_STEP_S))
    assert placement.order() == [1, 0]
    placement.forget()
    assert placement.order() == [0, 1]


@pytest.mark.parametrize(
    ("states", "merged"),
    [
        (("ready", "ready"), "ready"),
        (("ready", "starting"), "starting"),
        (("failed", "starting"), "starting"),
        (("failed", "ready"), "ready"),
        (("failed", "failed"), "failed"),
        (("ready", "stopped"), "stopped"),
    ],
)
def test_a_model_fails_only_where_every_device_has_lost_it(
    states: tuple[str, str], merged: str
) -> None:
    parts = {
        f"cuda:{k}": Health({"a": ModelHealth(state, "why")})  # type: ignore[arg-type]
        for k, state in enumerate(states)
    }
    health = merged_health(parts)
    assert health.models["a"].state == merged
    some = "failed" in states and merged != "failed"
    assert health.lost == ({"a": (0,)} if some else {})
    assert len(health.concerns) == int(some)


def test_an_engine_with_one_device_says_why_a_model_is_lost() -> None:
    with running(devices=1) as (engine, _):
        engine.devices.members[0].status.fail("toy", EngineFailed("it broke"))
        with pytest.raises(EngineFailed, match="it broke"):
            engine.open("toy", INF)


def test_a_device_that_hangs_gets_no_more_sessions() -> None:
    with running(slots=SLOTS, devices=2) as (engine, _):
        first = engine.devices.members[0].device
        first._began_s = time.monotonic() - HUNG_S
        assert [device_of(engine.open("toy", INF)) for _ in range(2)] == [1, 1]
        assert engine.health.ready
        assert engine.health.lost == {"toy": (0,)}
