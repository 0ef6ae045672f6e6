"""The table from the engine's errors to the wire's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from saccade.server.engine import errors as engine
from saccade.server.protocol import errors as wire

_ON_THE_WIRE: Final[
    dict[type[engine.EngineError], Callable[[Any], wire.ProtocolError]]
] = {
    engine.UnknownServable: lambda error: wire.UnknownModel(error.model),
    engine.NotReady: lambda error: wire.NotReady(
        f"the model is not ready: {error.reason}"
    ),
    engine.SlotsExhausted: lambda error: wire.SlotsExhausted(error.slots),
    engine.EngineFailed: lambda _: wire.EngineFailed(),
    engine.DeviceLost: lambda _: wire.EngineFailed(),
    engine.CanaryMismatch: lambda _: wire.EngineFailed(),
}
"""An error that is not listed is a fault of ours: `internal_error`."""


def to_wire_error(error: engine.EngineError) -> wire.ProtocolError:
    """Return the wire's error for the engine's; details stay in the log."""
    convert = _ON_THE_WIRE.get(type(error), lambda _: wire.InternalError())
    return convert(error)
