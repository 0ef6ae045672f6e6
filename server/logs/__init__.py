"""The server's log on standard error: its own faults and turns, in bounded numbers.

`journal` names events and the client that a line concerns, `formats` writes lines for
people or as JSON, `bound` limits their number, and `configuration` sets all that up.
"""

from saccade.server.logs.bound import COUNTING, PERIOD_S
from saccade.server.logs.configuration import (
    LogChoices,
    LogFormat,
    LogLevel,
    configure_logs,
    ignore_signals,
    logs_json,
    set_level,
    tell,
    toggle_level,
    write_left_out,
)
from saccade.server.logs.journal import (
    EVENTS,
    JOURNAL,
    ClientFacts,
    about,
    current_client,
    log_refusal,
    serve_client,
)

__all__ = [
    "COUNTING",
    "EVENTS",
    "JOURNAL",
    "PERIOD_S",
    "ClientFacts",
    "LogChoices",
    "LogFormat",
    "LogLevel",
    "about",
    "configure_logs",
    "current_client",
    "ignore_signals",
    "log_refusal",
    "logs_json",
    "serve_client",
    "set_level",
    "tell",
    "toggle_level",
    "write_left_out",
]
