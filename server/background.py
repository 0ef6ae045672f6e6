"""Work that is repeated in the background for as long as the server runs.

A failure is logged, counted and tried again, and ends nothing. One that persists is a
concern: health is amber until the work succeeds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)

PERSISTENT: Final = 3
"""Failures in a row that are no accident any more."""
LONGEST_PAUSE_S: Final = 60.0

NoteFailures = Callable[[str, int], None]
"""Receives the name of some work, and how often it has failed since it succeeded."""


class Failing(NamedTuple):
    """Work that failed the last times, and how many times in a row."""

    times: int
    reason: str


class Background:
    """The background work of one process, by name.

    Args:
        note_failures: Called at each failure, and with 0 where work succeeds again or
            is new.
    """

    def __init__(self, note_failures: NoteFailures) -> None:
        self._note_failures = note_failures
        self._failing: dict[str, Failing] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def concerns(self) -> tuple[str, ...]:
        """What failed several times in a row, and why; empty where all is well."""
        return tuple(
            f"{name} has failed {failing.times} times: {failing.reason}"
            for name, failing in self._failing.items()
            if failing.times >= PERSISTENT
        )

    def repeat(
        self, name: str, every_s: float, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Do some work again and again, until `stop`.

        Args:
            name: What is done, as the log and health say it.
            every_s: Seconds from the end of the work to its next beginning; doubled
                after each failure, up to a minute.
            work: Does it once.
        """
        self._note_failures(name, 0)
        self._tasks.append(asyncio.create_task(self._repeat(name, every_s, work)))

    def stop(self) -> None:
        """End all work."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    async def _repeat(
        self, name: str, every_s: float, work: Callable[[], Awaitable[None]]
    ) -> None:
        while True:
            await asyncio.sleep(self._pause_s(name, every_s))
            try:
                await work()
            except Exception as error:
                self._failed(name, error)
            else:
                self._succeeded(name)

    def _pause_s(self, name: str, every_s: float) -> float:
        times = self._failing[name].times if name in self._failing else 0
        return max(every_s, min(every_s * 2.0**times, LONGEST_PAUSE_S))

    def _failed(self, name: str, error: Exception) -> None:
        times = self._failing[name].times + 1 if name in self._failing else 1
        reason = f"{type(error).__name__}: {error}"
        self._failing[name] = Failing(times, reason)
        self._note_failures(name, times)
        trace = error if times == 1 else None  # once is enough to find the cause
        LOG.error(
            "%s failed and is tried again: %s",
            name,
            reason,
            exc_info=trace,
            extra=about("background_failed", work=name, times=times) | {"kind": name},
        )

    def _succeeded(self, name: str) -> None:
        failing = self._failing.pop(name, None)
        if failing is not None:
            self._note_failures(name, 0)
            LOG.warning(
                "%s works again, after %d failures",
                name,
                failing.times,
                extra=about("background_recovered", work=name, times=failing.times),
            )
