"""The SDK of Saccade, an inference service for event cameras.

`connect` opens a stream to a server, `blocking.connect` does the same without asyncio,
and `classify` sends whole recordings through REST. docs/sdk.md lists every name with an
example. A name is imported when it is first used, and JAX never is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from saccade import blocking
    from saccade.clients.connection import connect
    from saccade.clients.errors import (
        ClientError,
        ConnectionLost,
        RequestRefused,
        ServerUnavailable,
        ServerUnreachable,
        StreamClosed,
        StreamError,
    )
    from saccade.clients.http import classify
    from saccade.clients.reconnecting import NEVER, Reconnecting
    from saccade.clients.session import Bounds
    from saccade.model.events.errors import (
        EventNotPackable,
        EventsError,
        NotEvents,
        UnsortedEvents,
    )
    from saccade.model.events.sensor import Sensor
    from saccade.server.protocol.messages import ReadoutWindow, Report

__version__ = "0.1.0"

_PLACES: Final = {
    "saccade.clients.connection": ("connect",),
    "saccade.clients.http": ("classify",),
    "saccade.clients.session": ("Bounds",),
    "saccade.clients.reconnecting": ("NEVER", "Reconnecting"),
    "saccade.clients.errors": (
        "ClientError",
        "ConnectionLost",
        "RequestRefused",
        "ServerUnavailable",
        "ServerUnreachable",
        "StreamClosed",
        "StreamError",
    ),
    "saccade.model.events.errors": (
        "EventNotPackable",
        "EventsError",
        "NotEvents",
        "UnsortedEvents",
    ),
    "saccade.model.events.sensor": ("Sensor",),
    "saccade.server.protocol.messages": ("ReadoutWindow", "Report"),
}
_MODULES: Final = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "NEVER",
    "Bounds",
    "ClientError",
    "ConnectionLost",
    "EventNotPackable",
    "EventsError",
    "NotEvents",
    "ReadoutWindow",
    "Reconnecting",
    "Report",
    "RequestRefused",
    "Sensor",
    "ServerUnavailable",
    "ServerUnreachable",
    "StreamClosed",
    "StreamError",
    "UnsortedEvents",
    "__version__",
    "blocking",
    "classify",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used.

    Raises:
        AttributeError: There is no such name.
        ModuleNotFoundError: The name needs a package of an extra; says which.
    """
    if name == "blocking":
        return import_module("saccade.blocking")
    if name not in _MODULES:
        raise AttributeError(f"module 'saccade' has no attribute {name!r}")
    try:
        value = getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as missing:
        if missing.name != "httpx":
            raise
        raise ModuleNotFoundError(
            f"saccade.{name} needs the package 'httpx', which is not installed; "
            "pip install 'saccade[terminal]' brings it",
            name="httpx",
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
