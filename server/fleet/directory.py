"""The directory of a fleet: the newest report of every process that is alive.

A report stays for its time to live; a process that stops renewing it is gone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from saccade.server.fleet.report import Report


class DirectoryUnavailable(Exception):
    """The directory cannot be read or written."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the directory of the fleet does not work: {self.reason}"


class Directory(ABC):
    """Keeps the reports; every method may raise `DirectoryUnavailable`."""

    @abstractmethod
    async def announce(self, report: Report, ttl_s: float) -> None:
        """Keep a report, in place of the earlier one of the same process."""

    @abstractmethod
    async def withdraw(self, report: Report) -> None:
        """Remove a process's report: it has stopped."""

    @abstractmethod
    async def reports(self) -> list[Report]:
        """Return the reports that have not expired."""

    @abstractmethod
    async def close(self) -> None:
        """Close connections; the directory is not used again."""
