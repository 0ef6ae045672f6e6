"""The SDK of Saccade, an inference service for event cameras.

`connect` opens a stream to a server, `blocking.connect` does the same without asyncio,
and `classify` sends whole recordings through REST. docs/sdk.md lists every name with an
example. A name is imported when it is first used, and JAX never is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from saccade import blocking as blocking
    from saccade.clients.connection import connect as connect
    from saccade.clients.errors import (
        ClientError as ClientError,
        ConnectionLost as ConnectionLost,
        InvalidChoice as InvalidChoice,
        RequestRefused as RequestRefused,
        ServerUnavailable as ServerUnavailable,
        ServerUnreachable as ServerUnreachable,
        StreamClosed as StreamClosed,
        StreamError as StreamError,
        WrongEncoding as WrongEncoding,
    )
    from saccade.clients.http import classify as classify
    from saccade.clients.reconnecting import (
        NEVER as NEVER,
        Reconnecting as Reconnecting,
    )
    from saccade.clients.session import Bounds as Bounds
    from saccade.model.events.errors import (
        EventNotPackable as EventNotPackable,
        EventsError as EventsError,
        NotEvents as NotEvents,
        SaccadeError as SaccadeError,
        UnsortedEvents as UnsortedEvents,
    )
    from saccade.model.events.sensor import Sensor as Sensor
    from saccade.server.protocol.messages import (
        ReadoutWindow as ReadoutWindow,
        Report as Report,
    )

__version__ = "0.1.0"

_NAMES: Final = {
    "clients.connection": "connect",
    "clients.http": "classify",
    "clients.session": "Bounds",
    "clients.reconnecting": "NEVER Reconnecting",
    "clients.errors": "ClientError ConnectionLost InvalidChoice RequestRefused "
    "ServerUnavailable ServerUnreachable StreamClosed StreamError WrongEncoding",
    "model.events.errors": "EventNotPackable EventsError NotEvents SaccadeError "
    "UnsortedEvents",
    "model.events.sensor": "Sensor",
    "server.protocol.messages": "ReadoutWindow Report",
}
_MODULES: Final = {
    name: f"saccade.{module}"
    for module, names in _NAMES.items()
    for name in names.split()
}

__all__ = ["__version__", "blocking", *_MODULES]


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
