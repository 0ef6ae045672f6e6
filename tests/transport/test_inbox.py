"""What one websocket has received waits in an inbox until the application takes it."""

import asyncio
from typing import Any, cast

from saccade.server.transport.coalescing import MOST_WAITING, Inbox


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


def message(size: int = 1) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": bytes(size)}


def inbox_of(transport: Transport) -> Inbox:
    inbox = Inbox()
    inbox.attach(cast(asyncio.Transport, transport))
    return inbox


def test_all_that_waits_is_taken_at_once_in_the_order_in_which_it_came() -> None:
    inbox = inbox_of(Transport())
    came = [message(size) for size in (3, 1, 2)]
    for one in came:
        inbox.put_nowait(one)
    assert asyncio.run(inbox.take_all()) == came
    assert inbox.empty()


def test_who_waits_is_woken_by_the_first_message_and_finds_those_behind_it() -> None:
    async def run() -> tuple[list[Any], list[Any]]:
        inbox = inbox_of(Transport())
        taking = asyncio.create_task(inbox.take_all())
        await asyncio.sleep(0)
        inbox.put_nowait(message(1))
        inbox.put_nowait(message(2))
        first = await taking
        inbox.put_nowait(message(3))
        return first, await inbox.take_all()

    assert asyncio.run(run()) == ([message(1), message(2)], [message(3)])


def test_a_cancelled_wait_loses_no_message() -> None:
    async def run() -> list[Any]:
        inbox = inbox_of(Transport())
        taking = asyncio.create_task(inbox.take_all())
        await asyncio.sleep(0)
        inbox.put_nowait(message())
        taking.cancel()
        await asyncio.wait([taking])
        return await inbox.take_all()

    assert asyncio.run(run()) == [message()]


def test_reading_is_paused_above_the_bound_until_all_is_taken() -> None:
    transport = Transport()
    inbox = inbox_of(transport)
    inbox.put_nowait(message(MOST_WAITING))
    assert transport.reading
    inbox.put_nowait(message())
    inbox.put_nowait(message())
    assert not transport.reading
    asyncio.run(inbox.take_all())
    assert transport.reading


def test_reading_resumes_after_the_last_of_messages_that_are_taken_singly() -> None:
    transport = Transport()
    inbox = inbox_of(transport)
    inbox.put_nowait(message(MOST_WAITING))
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
    asyncio.run(inbox.take_all())
    assert not transport.reading
