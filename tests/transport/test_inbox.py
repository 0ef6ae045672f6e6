"""What one websocket has received is handed over when it comes, or in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import pytest

from saccade.server.transport.inbox import (
    DISCONNECT,
    GIVEN_TURNS,
    MOST_WAITING,
    TURN_S,
    Inbox,
    ReadTurns,
)

END = {"type": DISCONNECT, "code": 1000}
NAME: ContextVar[str] = ContextVar("NAME")


class Transport:
    """Records whether it reads."""

    def __init__(self) -> None:
        self.reading = True
        self.closing = False

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        assert not self.closing
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing


class Clock:
    """Each message takes so long."""

    def __init__(self, takes_s: float) -> None:
        self.now_s = 0.0
        self.takes_s = takes_s

    def __call__(self) -> float:
        return self.now_s


def message(size: int = 1) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": bytes(size)}


def inbox_of(transport: Transport, turns: ReadTurns | None = None) -> Inbox:
    inbox = Inbox(turns or ReadTurns())
    inbox.attach(cast(asyncio.Transport, transport))
    return inbox


class Heard:
    """Inboxes of one event loop, and what was handed over of each, in order."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.clock = Clock(takes_s)
        self.turns = ReadTurns(self.clock)
        self.order: list[str] = []
        self.ends: dict[str, asyncio.Task[Any]] = {}

    async def listen(
        self, name: str, hear: Callable[[Any], bool] = lambda _: True
    ) -> Inbox:
        inbox = inbox_of(Transport(), self.turns)

        def heard(message: Any) -> bool:
            self.order.append(name)
            self.clock.now_s += self.clock.takes_s
            return hear(message)

        self.ends[name] = asyncio.create_task(inbox.listen(heard))
        await asyncio.sleep(0)
        return inbox


async def test_a_message_is_handed_over_while_it_is_put() -> None:
    heard = Heard()
    inbox = await heard.listen("one")
    inbox.put_nowait(message())
    assert heard.order == ["one"]
    assert inbox.empty()


async def test_what_came_before_the_listener_is_handed_over_in_its_order() -> None:
    inbox, sizes = inbox_of(Transport()), list[int]()
    for size in (3, 1, 2):
        inbox.put_nowait(message(size))
    inbox.put_nowait(END)

    def hear(message: Any) -> bool:
        sizes.append(len(message["bytes"]))
        return True

    assert await inbox.listen(hear) == END
    assert sizes == [3, 1, 2]


async def test_in_one_turn_of_the_event_loop_messages_are_handled_for_a_while() -> None:
    heard = Heard(TURN_S)
    inbox = await heard.listen("one")
    for _ in range(4):
        inbox.put_nowait(message())
    seen = [len(heard.order)]
    while len(heard.order) < 4:
        await asyncio.sleep(0)
        seen.append(len(heard.order))
    assert seen == [1, 2, 3, 4]


async def test_one_that_is_sent_little_waits_for_none_that_is_sent_much() -> None:
    heard = Heard(TURN_S)
    floods = [await heard.listen(f"flood {k}") for k in range(5)]
    little = await heard.listen("little")
    for _ in range(10):
        for flood in floods:
            flood.put_nowait(message(1000))
    for _ in range(20):
        await asyncio.sleep(0)
    little.put_nowait(message(10))
    assert heard.order[-1] == "little"


async def test_those_that_are_sent_much_are_handed_equally_much() -> None:
    heard = Heard(TURN_S)
    inboxes = {name: await heard.listen(name) for name in "abc"}
    for size, inbox in enumerate(inboxes.values(), start=1):
        for _ in range(60 // size):
            inbox.put_nowait(message(100 * size))
    for _ in range(40):
        await asyncio.sleep(0)
    had = [heard.order.count(name) * size for size, name in enumerate("abc", start=1)]
    assert max(had) - min(had) <= 6


async def test_a_listener_that_gives_way_hears_nothing_for_some_turns() -> None:
    heard = Heard()
    inbox = await heard.listen("one", lambda _: False)
    inbox.put_nowait(message())
    inbox.put_nowait(message())
    for _ in range(GIVEN_TURNS):
        await asyncio.sleep(0)
        assert len(heard.order) == 1
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(heard.order) == 2


async def test_what_a_listener_raises_ends_it_and_disturbs_no_other() -> None:
    def refuse(_: Any) -> bool:
        raise RuntimeError("a listener's mistake")

    heard = Heard()
    bad, good = await heard.listen("bad", refuse), await heard.listen("good")
    bad.put_nowait(message())
    bad.put_nowait(message())
    good.put_nowait(message())
    with pytest.raises(RuntimeError, match="a listener's mistake"):
        await heard.ends["bad"]
    assert heard.order == ["bad", "good"]


async def test_a_listener_runs_in_its_own_context() -> None:
    seen: list[str] = []

    def hear(_: Any) -> bool:
        seen.append(NAME.get())
        return True

    async def listen(name: str) -> None:
        NAME.set(name)
        await inboxes[name].listen(hear)

    inboxes = {name: inbox_of(Transport()) for name in ("one", "other")}
    tasks = [asyncio.create_task(listen(name)) for name in inboxes]
    await asyncio.sleep(0)
    for inbox in inboxes.values():
        inbox.put_nowait(message())
        inbox.put_nowait(END)
    await asyncio.gather(*tasks)
    assert seen == ["one", "other"]


async def test_a_cancelled_listener_loses_no_message() -> None:
    heard = Heard()
    inbox = await heard.listen("one")
    heard.ends["one"].cancel()
    await asyncio.wait([heard.ends["one"]])
    inbox.put_nowait(message(3))
    assert await inbox.get() == message(3)


async def test_nothing_is_kept_of_a_connection_that_is_lost() -> None:
    heard = Heard(TURN_S)
    inbox = await heard.listen("one")
    for _ in range(3):
        inbox.put_nowait(message())
    inbox.put_nowait(END)
    inbox.close()
    assert await heard.ends["one"] == END
    line = vars(heard.turns)["_line"]
    assert not line
    assert not vars(line)["_served"]


def test_reading_is_paused_above_the_bound_until_all_is_taken() -> None:
    transport = Transport()
    inbox = inbox_of(transport)
    inbox.put_nowait(message(MOST_WAITING))
    assert transport.reading
    inbox.put_nowait(message())
    asyncio.run(inbox.get())
    assert not transport.reading
    asyncio.run(inbox.get())
    assert transport.reading


def test_a_connection_that_closes_is_not_read_from_again() -> None:
    transport = Transport()
    inbox = inbox_of(transport)
    inbox.put_nowait(message(MOST_WAITING + 1))
    transport.closing = True
    asyncio.run(inbox.get())
    assert not transport.reading


async def test_who_waits_for_a_message_is_woken_by_it() -> None:
    inbox = inbox_of(Transport())
    getting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    inbox.put_nowait(message(1))
    assert await getting == message(1)
