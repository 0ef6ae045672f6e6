"""How outputs come from the device thread to the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from hypothesis import given, strategies as st

from saccade.server.engine.client import TURN_S, EngineClient
from saccade.server.engine.leases import Lease
from saccade.server.engine.output_turns import ALONE_TICKS, TURN_TICKS, OutputTurns
from saccade.server.engine.outputs import (
    Deliver,
    DeviceOutput,
    EngineOutput,
    ExportedState,
    PagesDone,
    TickScores,
)


class FakeFrontend:
    """A front end, and its link to an engine, that keep what they receive."""

    def __init__(self) -> None:
        self.link = self

    def start(self, deliver: Deliver) -> None:
        self.deliver = deliver

    def flush(self) -> None:
        raise AssertionError("no command was given")

    def receive(self, outputs: list[DeviceOutput]) -> list[EngineOutput]:
        return [scores(int(output.slots[0]), 1) for output in outputs]


def done(slot: int) -> PagesDone:
    row = np.array([slot], np.int32), np.zeros(1, np.int64), np.ones(1, np.int32)
    return PagesDone("toy", *row, np.zeros(1, np.int32), scored=True)


def lease(slot: int) -> Lease:
    return Lease("toy", slot, 0)


def scores(slot: int, ticks: int, first: int = 0) -> TickScores:
    numbers = np.arange(first, first + ticks)
    columns = numbers[:, None].astype(np.float32), numbers, numbers, numbers / 1.0
    return TickScores(lease(slot), *columns)


def exported(slot: int) -> ExportedState:
    return ExportedState(lease(slot), None, lambda _: None)  # type: ignore[arg-type]


def test_what_waits_of_one_lease_is_joined_and_stays_in_order() -> None:
    turns, row = OutputTurns(), exported(1)
    turns.add([scores(1, 3), scores(1, 2, first=3), row, scores(1, 4, first=5)])
    before, between, after = turns.take()
    assert between is row
    for joined, numbers in ((before, range(5)), (after, range(5, 9))):
        assert isinstance(joined, TickScores)
        for column in joined[1:5]:
            assert np.ravel(column).tolist() == [*numbers]
    assert not turns


def test_a_lease_that_waits_alone_has_a_longer_turn() -> None:
    turns = OutputTurns()
    turns.add(scores(1, 100) for _ in range(8))
    assert sum(len(each.t_us) for each in turns.take()) == ALONE_TICKS // 100 * 100
    turns.add(scores(2, 40) for _ in range(8))
    assert [(each.lease.slot, len(each.t_us)) for each in turns.take()] == [(2, 40)]


@given(st.integers(2, 20), st.integers(0, 40), st.integers(1, TURN_TICKS))
def test_a_lease_that_has_little_waits_for_no_turn_of_those_that_have_much(
    floods: int, more: int, ticks: int
) -> None:
    turns = OutputTurns()
    for _ in range(20):
        turns.add(scores(slot, TURN_TICKS) for slot in range(1, floods + 1))
    for _ in range(20):
        for _ in range(2 * floods + more):  # an equal share, and more
            turns.add([scores(turns.take()[0].lease.slot, TURN_TICKS)])
        turns.add([scores(0, ticks)])
        assert turns.take()[0].lease.slot == 0


def test_a_writer_has_its_turn_before_more_results_wait_than_may() -> None:
    frontend: Any = FakeFrontend()
    frontend.receive = lambda outputs: outputs
    client: Any = EngineClient(frontend, 1)
    counts: list[int] = []
    client.handle = lambda outputs: counts.extend(len(o.t_us) for o in outputs)
    client.receive([scores(1, TURN_TICKS) for _ in range(100)])
    assert ALONE_TICKS <= sum(counts) < 2 * ALONE_TICKS


def test_leases_that_have_much_have_equally_much() -> None:
    turns, had = OutputTurns(), dict.fromkeys(range(1, 6), 0)
    for _ in range(100):
        turns.add(scores(slot, 8 * slot) for slot in had)
        for output in turns.take():
            assert isinstance(output, TickScores)
            had[output.lease.slot] += len(output.t_us)
    assert max(had.values()) - min(had.values()) <= 2 * TURN_TICKS


def test_an_ended_lease_has_no_turn() -> None:
    turns = OutputTurns()
    turns.add([scores(1, 1), scores(2, 1)])
    turns.forget(lease(1))
    assert [each.lease.slot for each in turns.take()] == [2]
    assert turns.take() == []


def test_nothing_is_kept_of_outputs_whose_stream_has_ended() -> None:
    frontend: Any = FakeFrontend()
    frontend.receive = lambda outputs: outputs
    client: Any = EngineClient(frontend, 1)
    client.receive([scores(slot, 1) for slot in range(3)])
    turns = vars(vars(client)["_turns"])
    assert not turns["_waiting"]
    assert not turns["_line"]
    assert not vars(turns["_line"])["_served"]


async def test_other_work_of_the_event_loop_has_its_turn_between_outputs() -> None:
    frontend: Any = FakeFrontend()
    client: Any = EngineClient(frontend, 1)
    handled: list[int] = []

    def handle(outputs: list[EngineOutput]) -> None:
        time.sleep(2 * TURN_S)
        handled.extend(output.lease.slot for output in outputs)

    client.handle = handle
    client.start(asyncio.get_running_loop())
    frontend.deliver([done(slot) for slot in range(3)])
    seen = []
    while len(handled) < 3:
        seen.append(len(handled))
        await asyncio.sleep(0)
    assert seen[-3:] == [0, 1, 2]


async def test_outputs_after_one_that_cannot_be_handled_still_come() -> None:
    frontend: Any = FakeFrontend()
    loop = asyncio.get_running_loop()
    failed: list[Any] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    client: Any = EngineClient(frontend, 1)
    handled: list[int] = []

    def handle(outputs: list[EngineOutput]) -> None:
        slot = outputs[0].lease.slot
        if not slot:
            raise RuntimeError("a handler's mistake")
        handled.append(slot)

    client.handle = handle
    client.start(loop)
    frontend.deliver([done(0), done(1)])
    for _ in range(5):
        await asyncio.sleep(0)
    assert handled == [1]
    assert len(failed) == 1
