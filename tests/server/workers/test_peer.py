"""Two processes call each other: answers, errors, order, and the end of one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.store import (
    Delete,
    Outcome,
    Record,
    StoreUnavailable,
    Touch,
)
from saccade.server.workers.peer import CallFailed, Peer, PeerLost, ask_all
from saccade.server.workers.shared import RemoteStore, store_handlers


@asynccontextmanager
async def pair(
    handlers: dict[str, Any], told: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Peer, Peer, asyncio.Event]]:
    """Return a caller, who answers it, and whether the caller has lost it."""
    lost = asyncio.Event()
    caller = Peer({}, told or {}, lost.set)
    answerer = Peer(handlers, {}, lambda: None)
    for peer, end in zip((caller, answerer), socket.socketpair(), strict=True):
        await peer.connect(end)
    yield caller, answerer, lost
    caller.close()
    answerer.close()
    await lost.wait()


async def test_a_call_returns_the_answer_or_raises_what_the_other_raised() -> None:
    async def divide(one: int, other: int) -> int:
        return one // other

    async with pair({"divide": divide}) as (caller, _, _):
        assert await caller.call("divide", 7, 2) == 3
        with pytest.raises(CallFailed) as failed:
            await caller.call("divide", 7, 0)
        assert failed.value.kind == "ZeroDivisionError"
        with pytest.raises(CallFailed):
            await caller.call("unknown")


async def test_what_was_told_before_an_answer_is_known_with_it() -> None:
    heard: list[int] = []

    async def answer() -> None:
        for number in range(3):
            other.tell("count", number)

    async with pair({"answer": answer}, {"count": heard.append}) as (caller, other, _):
        await caller.call("answer")
        assert heard == [0, 1, 2]


async def test_the_end_of_a_process_ends_the_calls_that_wait_for_it() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async with pair({"never": never}) as (caller, answerer, lost):
        calling = asyncio.create_task(caller.call("never"))
        await asyncio.sleep(0)
        answerer.close()
        with pytest.raises(PeerLost):
            await calling
        await lost.wait()


async def test_who_does_not_answer_is_left_out() -> None:
    async def yes() -> str:
        return "yes"

    async with pair({"ask": yes}) as (good, _, _), pair({}) as (bad, _, _):
        assert await ask_all([good, bad, good], "ask") == ["yes", "yes"]


async def test_a_store_in_another_process_is_as_one_in_this() -> None:
    async with pair(store_handlers(MemoryStore())) as (caller, answerer, _):
        store = RemoteStore(caller)
        old = Record("key", 1, 100.0, b"second")
        assert await store.write([Record("key", 1, 100.0, b"first")]) == [Outcome.DONE]
        assert await store.write([old]) == [Outcome.DONE]
        claimed = await store.claim("key", 50.0)
        assert claimed == Record("key", 50_000, 100.0, b"second")
        epoch = claimed.epoch
        changes = [old, Touch("key", epoch, 1.0, 2.0), Touch("key", epoch, 100.0, 10.0)]
        outcomes = [Outcome.FENCED, Outcome.MISSING, Outcome.DONE]
        assert await store.write(changes) == outcomes
        assert await store.claim("key", 50.0) is None
        assert await store.sweep(50.0) == 1
        answerer.close()
        with pytest.raises(StoreUnavailable):
            await store.write([Delete("key", epoch, 60.0)])
