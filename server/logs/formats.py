"""A log record as a line for people, or as a JSON object.

What a client sent may be quoted in a message. No character of it can end the line, move
a terminal's cursor or turn the direction of the text: all that is not printable is
escaped, in both formats.
"""

from __future__ import annotations

import json
import logging
import math
import os
from datetime import UTC, datetime
from typing import Any, Final

from saccade.server.logs.journal import ClientFacts, current_client

MOST_CHARACTERS: Final = 4096
"""Of a message; the rest is counted."""

INDENT: Final = "    "
"""Before each line of a traceback, so that none looks like a line of the log."""


class HumanFormat(logging.Formatter):
    """Lines such as `2026-11-29T14:00:00.000+01:00 INFO worker 0: … [event=ready]`.

    Args:
        process: Name of this process; empty where there is one.
    """

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process and f"{process}: "

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line, and its traceback indented below."""
        moment = datetime.fromtimestamp(record.created).astimezone()
        time = moment.isoformat(timespec="milliseconds")
        client = client_of(record)
        named = {
            "event": getattr(record, "event", ""),
            "session": client.session,
            "key": client.key,
        }
        words = " ".join(f"{n}={printable(v)}" for n, v in named.items() if v)
        line = f"{time} {record.levelname} {self._process}{message_of(record)}"
        if more := getattr(record, "more_like_this", 0):
            line += f" ({more} more like this were not logged)"
        if words:
            line += f" [{words}]"
        return "\n".join([line, *map(_indented, traceback_of(record))])


class JsonFormat(logging.Formatter):
    """JSON objects, one a line, in ASCII.

    Args:
        process: Name of this process.
        replica: The server's name.
    """

    def __init__(self, process: str, replica: str = "") -> None:
        super().__init__()
        self._always: dict[str, Any] = {
            "process": process or "server",
            "pid": os.getpid(),
        }
        if replica:
            self._always["replica"] = replica

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "other"),
            "message": message_of(record),
            "logger": record.name,
            **self._always,
        }
        client = client_of(record)
        named = {
            "session": client.session,
            "key": client.key,
            "trace_id": client.trace_id,
            "more_like_this": getattr(record, "more_like_this", 0),
        }
        fields |= {name: value for name, value in named.items() if value}
        fields |= getattr(record, "facts", {})
        if record.exc_info and (error := record.exc_info[1]) is not None:
            stack = "\n".join(traceback_of(record))
            kind = type(error).__name__
            fields["exception"] = {"type": kind, "text": str(error), "stack": stack}
        return json.dumps(_plain(fields), allow_nan=False)


def client_of(record: logging.LogRecord) -> ClientFacts:
    """Return the client that a record is about; called where it was logged."""
    named: ClientFacts | None = getattr(record, "client", None)
    return named or current_client()


def message_of(record: logging.LogRecord) -> str:
    """Return a record's message, printable and of bounded length."""
    message = record.getMessage()
    left_out = len(message) - MOST_CHARACTERS
    if left_out > 0:
        message = f"{message[:MOST_CHARACTERS]}… ({left_out} more characters)"
    return printable(message)


def traceback_of(record: logging.LogRecord) -> list[str]:
    """Return the lines of a record's traceback, printable; none where it has none."""
    if not record.exc_info:
        return []
    text = logging.Formatter().formatException(record.exc_info)
    return [printable(line) for line in text.split("\n")]


def printable(text: str) -> str:
    r"""Return a text whose unprintable characters are escaped, as `\n` or `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def _indented(line: str) -> str:
    return f"{INDENT}{line}"


def _plain(value: Any) -> Any:
    """Return what JSON can write: no number that is not finite, no half of a pair."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
