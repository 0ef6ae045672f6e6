"""How outputs come from the device thread to the event loop."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import Any

import numpy as np

from saccade.server.engine.client import RECEIVED_TICKS, EngineClient
from saccade.server.engine.outputs import Deliver, DeviceOutput, EngineOutput, PagesDone


class FakeFrontend:
    """A front end, and its link to an engine, that keep what they receive."""

    def __init__(self) -> None:
        self.link = self
        self.turns: list[list[DeviceOutput]] = []
        self.changed = asyncio.Event()

    def start(self, deliver: Deliver) -> None:
        self.deliver = deliver

    def flush(self) -> None:
        raise AssertionError("no command was given")

    def receive(self, outputs: list[DeviceOutput]) -> list[EngineOutput]:
        self.turns.append(outputs)
        self.changed.set()
        return []


def done(ticks: int) -> PagesDone:
    row = np.zeros(1, np.int32), np.zeros(1, np.int64), np.array([ticks], np.int32)
    return PagesDone("toy", *row, np.zeros(ticks, np.int32), scored=True)


async def test_a_writer_has_its_turn_before_more_results_wait_than_may() -> None:
    frontend: Any = FakeFrontend()
    EngineClient(frontend, 1).start(asyncio.get_running_loop())
    steps = [done(RECEIVED_TICKS // 2) for _ in range(5)]
    seen: list[int] = []

    async def write() -> None:
        while sum(map(len, frontend.turns)) < len(steps):
            frontend.changed.clear()
            await frontend.changed.wait()
            seen.append(len(frontend.turns))

    writing = asyncio.create_task(write())
    await asyncio.sleep(0)
    frontend.deliver(steps)
    await writing
    assert seen == [1, 2, 3]
    assert [len(outputs) for outputs in frontend.turns] == [2, 2, 1]
    assert [*chain.from_iterable(frontend.turns)] == steps


async def test_outputs_after_one_that_cannot_be_handled_still_come() -> None:
    frontend: Any = FakeFrontend()
    loop = asyncio.get_running_loop()
    failed: list[Any] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    client: Any = EngineClient(frontend, 1)
    handle = client.handle

    def fail_once(outputs: list[EngineOutput]) -> None:
        client.handle = handle
        raise RuntimeError("a handler's mistake")

    client.handle = fail_once
    client.start(loop)
    frontend.deliver([done(RECEIVED_TICKS), done(RECEIVED_TICKS)])
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(frontend.turns) == 2
    assert len(failed) == 1
