"""What all workers have in common, as one of them uses it: calls of the supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Final

from prometheus_client import CollectorRegistry

from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Check,
    Delete,
    Outcome,
    Record,
    Store,
    StoreUnavailable,
    Touch,
)
from saccade.server.sessions.watch_desk import (
    Collected,
    TooManyWatchers,
    WatchRequest,
)
from saccade.server.transport.exposition import Format
from saccade.server.workers.merged_metrics import families_of, merged
from saccade.server.workers.peer import CallFailed, Handler, Peer, PeerError

KINDS: Final = (Record, Touch, Check, Delete)
"""The kinds of a change, as one process names them to the other by their place."""


class RemoteStore(Store):
    """The supervisor's store of sessions in memory.

    Args:
        supervisor: Keeps the records.
    """

    def __init__(self, supervisor: Peer) -> None:
        self._supervisor = supervisor

    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        """Do changes; see Store."""
        plain = [(KINDS.index(type(each)), *_fields(each)) for each in changes]
        return [_answer(each) for each in await self._call("write", plain)]

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; see Store."""
        record = await self._call("claim", key, now_s)
        return None if record is None else Record(*record)

    async def sweep(self, now_s: float) -> int:
        """Delete the records that have expired; see Store."""
        return int(await self._call("sweep", now_s))

    async def close(self) -> None:
        """Leave the records to the other workers."""

    async def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return await self._supervisor.call(f"store_{name}", *arguments)
        except CallFailed as error:
            raise StoreUnavailable(error.reason) from None
        except PeerError as error:
            raise StoreUnavailable(str(error)) from None


def _fields(change: Change) -> tuple[Any, ...]:
    return astuple(change) if isinstance(change, Record) else change


def _answer(plain: int | str) -> Answer:
    return StoreUnavailable(plain) if isinstance(plain, str) else Outcome(plain)


def _plain(answer: Answer) -> int | str:
    return answer.value if isinstance(answer, Outcome) else answer.reason


def store_handlers(store: Store) -> dict[str, Handler]:
    """Return what answers the calls of `RemoteStore`."""

    async def write(changes: list[list[Any]]) -> list[int | str]:
        answers = await store.write([KINDS[kind](*rest) for kind, *rest in changes])
        return [_plain(answer) for answer in answers]

    async def claim(key: str, now_s: float) -> tuple[Any, ...] | None:
        record = await store.claim(key, now_s)
        return None if record is None else astuple(record)

    return {
        "store_write": write,
        "store_claim": claim,
        "store_sweep": store.sweep,
    }


class RemoteTickets:
    """The tickets of the whole server, which the supervisor issues and takes.

    Args:
        supervisor: Keeps the tickets.
    """

    def __init__(self, supervisor: Peer) -> None:
        self._supervisor = supervisor

    async def issue(self, holder: str) -> str:
        """Return a new ticket; see `TicketOffice`."""
        return str(await self._supervisor.call("issue_ticket", holder))

    async def use(self, ticket: str) -> str | None:
        """Take a ticket; see `TicketOffice`."""
        holder = await self._supervisor.call("use_ticket", ticket)
        return None if holder is None else str(holder)


class OtherWorkers:
    """The other workers, asked through the supervisor; see `Elsewhere`.

    Args:
        supervisor: Asks them.
    """

    def __init__(self, supervisor: Peer) -> None:
        self._supervisor = supervisor

    async def sessions(self, holder: str) -> list[dict[str, Any]]:
        """Return the facts about a holder's sessions there."""
        answers = await self._supervisor.call("ask_others", "sessions", [holder])
        return [each for answer in answers for each in answer]

    async def delete(self, holder: str, name: str) -> bool:
        """End a holder's session there for good; return whether there was one."""
        return any(await self._supervisor.call("ask_others", "delete", [holder, name]))

    async def take_over(self, key: str, holder: str) -> None:
        """End a session's connection there, and wait until the session is saved."""
        await self._supervisor.call("ask_others", "take_over", [key, holder])

    async def watch(
        self, name: str, request: WatchRequest, *, first: bool
    ) -> Collected | None:
        """Collect for a watcher of a session there; see `Elsewhere`."""
        arguments = [name, list(request), first]
        answers = await self._supervisor.call("ask_others", "watch", arguments)
        for answer in answers:
            if answer is not None:
                if answer[0] is None:
                    raise TooManyWatchers
                return Collected(*answer)
        return None

    async def stop_watch(self, name: str) -> None:
        """End a watch there."""
        await self._supervisor.call("ask_others", "stop_watch", [name])

    async def overview(self, holder: str, *, everyone: bool) -> list[dict[str, Any]]:
        """Return the parts of the overview there, the engine process's too."""
        arguments = [holder, everyone]
        parts = await self._supervisor.call("ask_others", "overview", arguments)
        return [*parts]

    async def exposition(self, own: CollectorRegistry, form: Format) -> bytes:
        """Return the metrics of all processes."""
        self._supervisor.tell("counted", families_of(own))
        return form.written(merged(await self._supervisor.call("metrics")))
