"""How many files, sockets among them, a server's processes may have open."""

from __future__ import annotations

from typing import Final

from saccade.server.settings import Settings

try:
    import resource
except ModuleNotFoundError:  # a system without such limits
    resource = None  # type: ignore[assignment]

RESERVE: Final = 256
"""Files beside those of sessions: libraries, store, uploads, watchers, probes."""


def files_of(settings: Settings, sessions: int) -> int:
    """Return how many files one process has open while it has its share of sessions.

    Args:
        settings: The server's.
        sessions: Sessions of each model.
    """
    sockets = sessions * max(1, len(settings.folders))
    return -(-sockets // max(1, settings.workers)) + RESERVE


def most_files() -> int | None:
    """Return how many files this process may have open once it asks for the most.

    None where there is no limit.
    """
    if resource is None:
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def raise_file_limit(wanted: int) -> None:
    """Let this process and its children have so many files open, or as many as it may.

    Shells begin programs with 1,024, whatever the system allows; a session takes one.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
