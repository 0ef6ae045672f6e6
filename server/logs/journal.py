"""The events that the log names, and the client that a line is about.

Every line of the server's own is one call of a logger, with `extra=about(event, …)`:
the sentence is for people, the event's name for `grep`, the facts for programs.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

JOURNAL: Final = logging.getLogger("saccade.journal")
"""What an operator wants to find in the log of a server that is well."""

Fact: TypeAlias = str | int | float | bool | None

EVENTS: Final = {
    "start": "A process of the server starts.",
    "settings_file": "Which file the settings come from.",
    "ray": "Where Ray's dashboard is, or why Ray is started again.",
    "loading": "What the start does; on a terminal a line that changes instead.",
    "cpu_time": "The CPU time of the server's group is limited: its threads follow.",
    "device": "What runs the models, and why; a warning where it is not what is there.",
    "ready": "Sessions may be opened.",
    "cannot_serve": "The server ends, or one model never serves: a reason to act on.",
    "stopping": "A signal came, or the device is lost; sessions are drained.",
    "stopped": "The server has ended in order.",
    "log_level": "SIGUSR1 came: the log says more, or as much as before.",
    "process_ended": "A worker or the engine process has ended; another one starts.",
    "engine_lost": "The engine process has ended; sessions resume at the next one.",
    "refused": "A client was refused; one line a code and minute, the others counted.",
    "session_opened": "A session has begun, or was resumed (debug).",
    "session_left": "A session's connection has ended, and how (debug).",
    "session_failed": "A fault of the server's ended a session.",
    "session_not_saved": "A session was not saved, or its record cannot be read.",
    "client_left": "A client went away while it was written to (debug).",
    "store_outage": "The store of sessions does not answer; sessions go on.",
    "store_fault": "What the store raised, where that is not an ordinary outage.",
    "store_recovered": "The store works again; for how long it failed, how often.",
    "fleet_outage": "The fleet's directory does not answer; the server goes on alone.",
    "fleet_recovered": "The directory works again.",
    "replica_unreachable": "Another server of the fleet cannot be asked.",
    "reloaded": "New sessions get a new version of a model.",
    "not_reloaded": "A new checkpoint cannot be used; the old version goes on.",
    "unloaded": "An old version has no session any more.",
    "model_failed": "The device failed with a model; its sessions are lost there.",
    "model_recovered": "The model is back; its sessions may be resumed.",
    "model_lost": "The model is given up until the server is started again.",
    "device_ended": "The thread of a device ends by a fault.",
    "model_prepared": "How a model runs: backend, precision, costs (debug).",
    "slow_shapes": "A shape from --buckets is so large that others wait for it.",
    "background_failed": "Background work failed and is tried again.",
    "background_recovered": "That work succeeds again.",
    "not_read": "A client's file ended its reader process, or took too long.",
    "not_kept": "What is compiled cannot be kept for the next start.",
    "call_failed": "A call between the server's processes failed (debug).",
    "exporting": "Traces and metrics are exported, and which of them.",
    "left_out": "So many lines of a kind were not written in the minute before.",
    "fault": "An exception that nothing caught.",
}
"""By name, what each event means."""

RESERVED: Final = frozenset(
    {
        *("time", "level", "event", "message", "logger", "process", "pid", "replica"),
        *("key", "session", "trace_id", "more_like_this", "exception"),
    }
)
"""Fields of a line that no fact may replace."""

MOST_CHARACTERS: Final = 300
"""Of what a client sent; the rest is left out."""


@dataclass
class ClientFacts:
    """The client that a task serves, as the log names it.

    Attributes:
        key: Name of the holder of the client's API key; empty where there is none.
        session: The session's name, once there is one.
        trace_id: The trace that the client's request belongs to, in hexadecimal.
    """

    key: str = ""
    session: str = ""
    trace_id: str = ""


_client: ContextVar[ClientFacts | None] = ContextVar("client", default=None)


def serve_client() -> None:
    """Have the lines of the current task, and of those that it starts, name a client.

    What is set in `current_client()` from then on is in those lines.
    """
    _client.set(ClientFacts())


def current_client() -> ClientFacts:
    """Return the client that the current task serves; one without a name elsewhere."""
    return _client.get() or ClientFacts()


def about(
    event: str, client: ClientFacts | None = None, **facts: Fact
) -> dict[str, Any]:
    """Return the `extra` of a line: its event, its client and its facts.

    Args:
        event: One of `EVENTS`.
        client: The client, where it is not the one that the current task serves.
        facts: Typed fields of the JSON format.
    """
    assert event in EVENTS, event
    assert RESERVED.isdisjoint(facts), facts
    return {"event": event, "client": client, "facts": facts}


def log_refusal(
    address: object,
    what: str,
    code: str,
    reason: str,
    client: ClientFacts | None = None,
) -> None:
    """Write to the journal that a client was refused.

    Args:
        address: The client's address, as ASGI gives it.
        what: What the client asked for.
        code: The refusal's code; each has a bound of its own.
        reason: The sentence that the client receives.
        client: The client, where it is not the one that the current task serves.
    """
    host = address[0] if isinstance(address, (list, tuple)) and address else "?"
    asked, why = what[:MOST_CHARACTERS], reason[:MOST_CHARACTERS]
    facts = about("refused", client, code=code, what=asked, address=str(host))
    JOURNAL.info(
        "refused %s of %s: %s (%s)",
        asked,
        host,
        why,
        code,
        extra=facts | {"kind": code, "most_of_kind": 1},
    )
