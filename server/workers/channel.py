"""Commands and outputs as bytes: what passes between a worker and the engine process.

Batches are msgpack; arrays travel as their bytes. Events and scores are in shared
memory and never pass here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, TypeAlias

import msgpack
import numpy as np

from saccade.server.engine import errors
from saccade.server.engine.commands import (
    Command,
    Export,
    Fail,
    Insert,
    Release,
    Restore,
    Submit,
)
from saccade.server.engine.errors import EngineError, EngineFailed
from saccade.server.engine.health import CanaryResult, Health, ModelHealth
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import (
    DeviceOutput,
    ExportedRow,
    PagesDone,
    StreamFailed,
)

HELLO, WELCOME, COMMANDS, OUTPUTS, HEALTH, MODELS, STREAMS, TRACE = range(8)
"""Kinds of messages; the first number of each."""

Message: TypeAlias = list[Any]

_NAMED: Final[tuple[type[Any], ...]] = (
    Lease,
    Insert,
    Restore,
    Submit,
    Export,
    Release,
    Fail,
    PagesDone,
    ExportedRow,
    StreamFailed,
)
_CODES: Final = {kind: code for code, kind in enumerate(_NAMED)}
_ARRAY: Final = 64
_ERROR: Final = 65


def encode(kind: int, *content: Any) -> bytes:
    """Return a message of a kind as bytes."""
    packed: bytes = msgpack.packb(
        [kind, *content], default=_to_extension, strict_types=True
    )
    return packed


def decode(data: bytes) -> Message:
    """Return a message, its kind first; its lists hold commands or outputs."""
    message: Message = msgpack.unpackb(data, ext_hook=_from_extension)
    return message


def encode_commands(commands: list[Command]) -> bytes:
    """Return a batch of commands as bytes."""
    return encode(COMMANDS, list(commands))


def encode_outputs(outputs: list[DeviceOutput]) -> bytes:
    """Return a batch of outputs as bytes."""
    return encode(OUTPUTS, list(outputs))


def health_to_plain(health: Health) -> list[Any]:
    """Return a health as msgpack takes it."""
    models = {
        name: [model.state, model.reason, model.compiling, model.canary]
        for name, model in health.models.items()
    }
    lost = {name: list(devices) for name, devices in health.lost.items()}
    return [models, list(health.concerns), lost]


def health_from_plain(plain: list[Any]) -> Health:
    """Return the health that `health_to_plain` wrote."""
    models, concerns, lost = plain
    states = {
        name: ModelHealth(state, reason, part, canary and CanaryResult(*canary))
        for name, (state, reason, part, canary) in models.items()
    }
    devices = {name: tuple(numbers) for name, numbers in lost.items()}
    return Health(states, tuple(concerns), devices)


def _to_extension(value: Any) -> Any:
    code = _CODES.get(type(value))
    if code is not None:
        return msgpack.ExtType(code, _packed(list(value)))
    if isinstance(value, np.ndarray):
        content = [value.dtype.str, list(value.shape), value.tobytes()]
        return msgpack.ExtType(_ARRAY, _packed(content))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, EngineError):
        facts = [getattr(value, field.name) for field in fields(value)]  # type: ignore[arg-type]
        return msgpack.ExtType(_ERROR, _packed([type(value).__name__, facts]))
    if isinstance(value, Sequence):  # a tuple, or the arrays of a row
        return list(value)
    raise TypeError(f"{type(value)} has no place in a message")


def _packed(content: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(content, default=_to_extension, strict_types=True)
    return packed


def _from_extension(code: int, data: bytes) -> Any:
    content = msgpack.unpackb(data, ext_hook=_from_extension)
    if code == _ARRAY:
        dtype, shape, raw = content
        return np.frombuffer(raw, dtype).reshape(shape)
    if code == _ERROR:
        name, facts = content
        kind = getattr(errors, name, None)
        return EngineFailed(name) if kind is None else kind(*facts)
    return _NAMED[code](*content)
