"""Bytes or text to message, and message to bytes or text; four functions.

Bytes are msgpack, text is JSON. What a client sends is read strictly: a field
that is unknown is a typing error, and is refused. What a server sends is read
leniently: a newer server may have more to say.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    MalformedMessage,
    UnsupportedProtocol,
)
from saccade.server.protocol.fields import did_you_mean
from saccade.server.protocol.forms import (
    read_binary,
    read_text,
    write_binary,
    write_text,
)
from saccade.server.protocol.messages import (
    PROTOCOL_VERSION,
    ClientMessage,
    Encoding,
    EventsFrame,
    ServerMessage,
)
from saccade.server.protocol.quoting import clip
from saccade.server.protocol.records import Map, Record
from saccade.server.protocol.schema import CLIENT_RECORDS, SERVER_RECORDS, seq
from saccade.server.protocol.text_events import as_packed, counted_bytes

Wire = bytes | str
"""One websocket message: binary is msgpack, text is JSON."""

_TYPES: Final = {
    record.kind: (name, record)
    for records in (CLIENT_RECORDS, SERVER_RECORDS)
    for name, record in records.items()
}


def decode_client(
    data: Wire, *, max_bytes: int | None = None, encoding: Encoding = "packed"
) -> ClientMessage:
    """Read what a client sent.

    Args:
        data: One websocket message.
        max_bytes: The longest message to look at; None is no limit.
        encoding: What the session was opened with: `events` as a JSON list
            stand for packed records only.

    Raises:
        ProtocolError: Its `fatal` says whether the session can go on.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise FrameTooLarge(len(data), max_bytes)
    name, raw = _split(data)
    record = _record(name, CLIENT_RECORDS)
    if name == "open":
        _check_version(raw)
    message: ClientMessage
    if name == "events":
        unlist = partial(as_packed, encoding=encoding)
        message = _read_events(raw, unlist if isinstance(data, str) else _as_it_is)
    else:
        message = record.read(raw)
    return message


def decode_server(data: Wire) -> ServerMessage:
    """Read what a server sent, ignoring fields that this version does not know.

    Raises:
        ProtocolError: Not a message of this protocol.
    """
    name, raw = _split(data)
    message: ServerMessage = _record(name, SERVER_RECORDS).read_known(raw)
    return message


def encode_client(message: ClientMessage, *, text: bool = False) -> Wire:
    """Write a client's message, as msgpack or as JSON text."""
    return _encode(message, text=text)


def encode_server(message: ServerMessage, *, text: bool) -> Wire:
    """Write a server's message in the form that the client used to open.

    Raises:
        ValueError: A logit is NaN or infinite: that is ours to find earlier.
    """
    logits = getattr(message, "logits", None)
    if logits is not None and not all(map(math.isfinite, logits)):
        raise ValueError("a logit is not finite")
    return _encode(message, text=text)


def type_name(message: ClientMessage | ServerMessage) -> str:
    """Return a message's `type` on the wire."""
    return _TYPES[type(message)][0]


def _encode(message: ClientMessage | ServerMessage, *, text: bool) -> Wire:
    name, record = _TYPES[type(message)]
    raw = {"type": name, **record.write(message)}
    return write_text(raw) if text else write_binary(raw)


def _split(data: Wire) -> tuple[str, Map]:
    raw = read_text(data) if isinstance(data, str) else read_binary(data)
    name = raw.pop("type", None)
    if type(name) is not str:
        raise MalformedMessage("it has no 'type' that is a string")
    return name, raw


def _record(name: str, records: dict[str, Record[Any]]) -> Record[Any]:
    record = records.get(name)
    if record is None:
        hint = did_you_mean(name, tuple(records))
        raise MalformedMessage(f"its type {clip(name)!r} is unknown{hint}")
    return record


def _check_version(raw: Map) -> None:
    """Refuse another version for that, before its fields are found unknown."""
    version = raw.get("protocol", PROTOCOL_VERSION)
    if type(version) is int and version != PROTOCOL_VERSION:
        raise UnsupportedProtocol(version)


def _read_events(raw: Map, as_binary: Callable[[Map], Map]) -> EventsFrame:
    """Read a frame such that its errors refuse that frame and no more."""
    if "seq" not in raw:
        raise InvalidField("seq", "is missing")
    number = seq(raw["seq"], "seq")
    try:
        raw = as_binary(raw)
        frame: EventsFrame = CLIENT_RECORDS["events"].read(raw)
    except InvalidField as error:
        size = counted_bytes(raw)
        raise dataclasses.replace(error, seq=number, size=size) from None
    return frame


def _as_it_is(raw: Map) -> Map:
    return raw
