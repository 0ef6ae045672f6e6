"""The other processes of one server, as the process with a connection sees them."""

from __future__ import annotations

from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from saccade.server.sessions.watch_desk import Collected, WatchRequest
from saccade.server.transport.exposition import Format


class Elsewhere(Protocol):
    """Asks all other processes of the server."""

    async def sessions(self, holder: str) -> list[dict[str, Any]]:
        """Return the fields of `SessionDescription` of a holder's sessions there."""

    async def delete(self, holder: str, name: str) -> bool:
        """End a holder's session there for good; return whether there was one."""

    async def take_over(self, key: str, holder: str) -> None:
        """End a session's connection there, and wait until the session is saved."""

    async def watch(
        self, name: str, request: WatchRequest, *, first: bool
    ) -> Collected | None:
        """Collect for a watcher of a session there, under the watch's name.

        Returns:
            What is new, perhaps nothing yet; None where there is no such session.

        Raises:
            TooManyWatchers: There is no room for another.
        """

    async def stop_watch(self, name: str) -> None:
        """End a watch there."""

    async def overview(self, holder: str, *, everyone: bool) -> list[dict[str, Any]]:
        """Return the parts of the overview there; see `overview.own_part`."""

    async def exposition(self, own: CollectorRegistry, form: Format) -> bytes:
        """Return the metrics of all processes."""


class Alone:
    """There are no other processes."""

    async def sessions(self, holder: str) -> list[dict[str, Any]]:
        """Return no sessions."""
        return []

    async def delete(self, holder: str, name: str) -> bool:
        """Find no session."""
        return False

    async def take_over(self, key: str, holder: str) -> None:
        """Find no session."""

    async def watch(
        self, name: str, request: WatchRequest, *, first: bool
    ) -> Collected | None:
        """Find no session."""
        return None

    async def stop_watch(self, name: str) -> None:
        """Find no session."""

    async def overview(self, holder: str, *, everyone: bool) -> list[dict[str, Any]]:
        """Return no parts."""
        return []

    async def exposition(self, own: CollectorRegistry, form: Format) -> bytes:
        """Return this process's metrics."""
        return form.written(own)
