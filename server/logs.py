"""The server's log on standard error: its own faults and turns, in bounded numbers.

Clients could otherwise fill it: with tracebacks about what they sent, with refusals, or
by using up what the process may open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

CLIENT_FAULTS: Final = {
    "uvicorn.error": frozenset(
        {
            "Invalid HTTP request received.",
            "Invalid UTF-8 sequence received from client.",
            "Unsupported upgrade request.",
            "ASGI callable returned without completing handshake.",
        }
    ),
    "asyncio": frozenset({"socket.send() raised exception."}),
}
"""For each logger, the messages about a client that sent nonsense, or left."""

MOST_OF_A_KIND: Final = 10
"""Lines of one kind within `PERIOD_S`; the others are counted."""
PERIOD_S: Final = 60.0
MOST_KINDS: Final = 1_000

JOURNAL: Final = logging.getLogger("saccade.journal")
"""What an operator wants to find in the log of a server that is well."""


def configure_logs(process: str = "") -> None:
    """Log warnings and the journal to standard error, each with the time.

    Args:
        process: Name of this process, where there are several.
    """
    form = f"%(asctime)s %(levelname)s {process and f'{process}: '}%(message)s"
    logging.basicConfig(level=logging.WARNING, format=form)
    JOURNAL.setLevel(logging.INFO)
    bound = Bound()
    for handler in logging.getLogger().handlers:
        handler.addFilter(bound)
    for name, messages in CLIENT_FAULTS.items():
        logging.getLogger(name).addFilter(partial(_is_own_fault, messages))


def log_refusal(client: object, what: str, code: str, reason: str) -> None:
    """Write to the journal that a client was refused.

    Args:
        client: The client's address, as ASGI gives it.
        what: What the client asked for.
        code: The refusal's code; each has a bound of its own.
        reason: The sentence that the client receives.
    """
    address = client[0] if isinstance(client, (list, tuple)) and client else "?"
    JOURNAL.info(
        "refused %s of %s: %s (%s)",
        what,
        address,
        reason.encode("unicode_escape").decode(),  # it may quote what the client sent
        code,
        extra={"kind": code},
    )


def _is_own_fault(client_faults: frozenset[str], record: logging.LogRecord) -> bool:
    return record.msg not in client_faults


class _Count(NamedTuple):
    """The records of one kind since a moment."""

    since_s: float
    records: int


class Bound:
    """A filter that passes so many records of a kind in a period, and counts the rest.

    Records are of one kind if they are of one logger, level and text before its
    arguments, or if their `kind` is the same. The first record of the next period says
    how many were left out.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, int, str], _Count] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        text = getattr(record, "kind", None) or str(record.msg).partition("\n")[0]
        kind, now_s = (record.name, record.levelno, text), self._clock()
        if kind not in self._counts and len(self._counts) >= MOST_KINDS:
            del self._counts[next(iter(self._counts))]
        count = self._counts.get(kind, _Count(now_s, 0))
        if now_s - count.since_s >= PERIOD_S:
            self._say_left_out(record, count.records - MOST_OF_A_KIND)
            count = _Count(now_s, 0)
        self._counts[kind] = _Count(count.since_s, count.records + 1)
        return count.records < MOST_OF_A_KIND

    def _say_left_out(self, record: logging.LogRecord, records: int) -> None:
        if records > 0:
            text = f"{record.getMessage()} ({records} more like this were not logged)"
            record.msg, record.args = text, None
