"""Logging of the server's own faults, without those of its clients.

Any client could otherwise fill the log with tracebacks.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

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


def configure_logs(process: str = "") -> None:
    """Log warnings to standard error, one line each, with the time.

    Args:
        process: Name of this process, where there are several.
    """
    form = f"%(asctime)s %(levelname)s {process and f'{process}: '}%(message)s"
    logging.basicConfig(level=logging.WARNING, format=form)
    for name, messages in CLIENT_FAULTS.items():
        logging.getLogger(name).addFilter(partial(_is_own_fault, messages))


def _is_own_fault(client_faults: frozenset[str], record: logging.LogRecord) -> bool:
    return record.msg not in client_faults
