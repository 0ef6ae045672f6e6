"""What an engine's error is called on the wire."""

from __future__ import annotations

from saccade.server.engine import errors as engine
from saccade.server.protocol import errors as wire


def to_wire_error(
    error: engine.EngineError, models: tuple[str, ...] = ()
) -> wire.ProtocolError:
    """Return the wire's error for the engine's; details stay in the log."""
    match error:
        case engine.UnknownServable():
            return wire.UnknownModel(error.model, models)
        case engine.NotReady():
            return wire.NotReady(f"the model is not ready: {error.reason}")
        case engine.SlotsExhausted():
            return wire.SlotsExhausted(error.slots)
        case engine.EngineFailed() | engine.CanaryMismatch():
            return wire.EngineFailed()
        case _:
            return wire.InternalError()
