"""This process's place in the fleet: it reports itself, and knows the others.

Where the directory fails, the last that was heard of the others counts until it would
have expired; then this server goes on alone. Nobody who is served notices.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from saccade.server.fleet.directory import Directory, DirectoryUnavailable
from saccade.server.fleet.placement import Placement, Unplaced
from saccade.server.fleet.report import Replica, Report, Usage, replicas_of
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)

HEARTBEAT_S: Final = 1.0
"""Time between two reports, s."""
TTL_S: Final = 4.0
"""Time after which a process that has not reported is gone, s."""
BEATING: Final = "the heartbeat to the fleet"


class KeyLedger(Protocol):
    """Counts what has been used with API keys in other processes."""

    def absorb(self, process: str, used: dict[str, Usage]) -> None:
        """Count what a process has used since its last report, and what it uses now."""

    def forget(self, process: str) -> None:
        """Count the sessions and requests of a process no more: it is gone."""


class Fleet:
    """The replicas, as one process of one of them knows them.

    Args:
        directory: Where all report.
        own: Returns this process's report as of now.
        ledger: Counts what other replicas let in with each key.
        clock: Seconds, never backwards.
    """

    def __init__(
        self,
        directory: Directory,
        own: Callable[[], Report],
        ledger: KeyLedger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._own = own
        self._ledger = ledger
        self._clock = clock
        self._placement = Placement(2 * HEARTBEAT_S)
        self._heard: list[Report] = []
        self._heard_s = clock()
        self._failing = False
        self._used: dict[str, dict[str, Usage]] = {}

    @property
    def replicas(self) -> list[Replica]:
        """All replicas that are alive as far as is known, this one as of now."""
        own = self._own()
        return replicas_of([*self._heard_besides(own), own])

    @property
    def others(self) -> list[Replica]:
        """The other replicas that are alive as far as is known."""
        own = self._own()
        found = replicas_of(self._heard_besides(own))
        return [one for one in found if one.name != own.replica]

    @property
    def connected(self) -> bool:
        """Whether the directory answered the last heartbeat."""
        return not self._failing

    def place(self, model: str, avoiding: Sequence[str] = ()) -> Replica:
        """Return the replica for a session of a model.

        Args:
            model: The model.
            avoiding: Addresses that are only chosen where no other replica is left.

        Raises:
            Unplaced: None can take it now.
        """
        replicas, now_s = self.replicas, self._clock()
        others = [one for one in replicas if one.url not in avoiding]
        with suppress(Unplaced):
            return self._placement.place(others, model, now_s)
        return self._placement.place(replicas, model, now_s)

    async def beat(self) -> None:
        """Report this process, and hear of the others."""
        own = self._own()
        try:
            await self._directory.announce(own, TTL_S)
            self._heard = await self._directory.reports()
        except DirectoryUnavailable as error:
            if not self._failing:
                facts = about("fleet_outage")
                LOG.error("%s; this server goes on alone", error, extra=facts)
            self._failing = True
        else:
            if self._failing:
                facts = about("fleet_recovered")
                LOG.warning("the directory of the fleet works again", extra=facts)
            self._failing, self._heard_s = False, self._clock()
        self._count_keys(own)

    async def leave(self) -> None:
        """Say that this process has stopped."""
        with suppress(DirectoryUnavailable):  # the report expires
            await self._directory.withdraw(self._own())
        await self._directory.close()

    def _heard_besides(self, own: Report) -> list[Report]:
        """Return the reports of the other processes that have not expired."""
        if self._clock() - self._heard_s > TTL_S:
            return []
        me = own.replica, own.part
        return [one for one in self._heard if (one.replica, one.part) != me]

    def _count_keys(self, own: Report) -> None:
        """Count what other replicas let in; the processes of one tell each other."""
        present = {
            f"{one.replica}/{one.part}": one.keys
            for one in self._heard_besides(own)
            if one.replica != own.replica
        }
        for process in self._used.keys() - present.keys():
            self._ledger.forget(process)
        for process, keys in present.items():
            known = self._used.get(process, keys)  # what came before is not charged
            since = {name: _since(known.get(name), use) for name, use in keys.items()}
            self._ledger.absorb(process, since)
        self._used = present


def _since(before: Usage | None, now: Usage) -> Usage:
    """Return the use between two reports; of a process that began anew, all of it."""
    if before is None or now.events < before.events or now.bytes < before.bytes:
        return now
    events, size = now.events - before.events, now.bytes - before.bytes
    return Usage(events, size, now.sessions, now.requests)
