"""What the server logs: its own faults, not what clients do wrong.

Whoever can connect could otherwise fill the log with tracebacks.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

OF_CLIENTS: Final = {
    "uvicorn.error": frozenset(
        {
            "Invalid HTTP request received.",
            "Invalid UTF-8 sequence received from client.",
            "Unsupported upgrade request.",
        }
    ),
    "asyncio": frozenset({"socket.send() raised exception."}),
}
"""By logger, what is said when a client sent nonsense, or left."""


def configure_logs() -> None:
    """Log warnings to standard error, a line each."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for name, messages in OF_CLIENTS.items():
        logging.getLogger(name).addFilter(partial(_is_news, messages))


def _is_news(known: frozenset[str], record: logging.LogRecord) -> bool:
    return record.msg not in known
