"""The two forms of a message: a msgpack map, and the same map as JSON text."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, Final

import msgpack
import numpy as np

from saccade.model.events.encodings.packed import OFFSET_LIMIT_US, RECORD_BYTES, pack
from saccade.model.events.types import EVENT_DTYPE
from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    MalformedMessage,
    UnsupportedProtocol,
    clip,
)
from saccade.server.protocol.fields import (
    Map,
    Parse,
    Record,
    did_you_mean,
    integer,
    wrong_type,
)
from saccade.server.protocol.messages import (
    PROTOCOL_VERSION,
    ClientMessage,
    Encoding,
    EventsFrame,
    ServerMessage,
)
from saccade.server.protocol.schema import (
    CLIENT_RECORDS,
    LARGEST_TIME_US,
    SERVER_RECORDS,
    seq,
    time_base_us,
)

LONGEST_STRING: Final = 65536
LONGEST_ARRAY: Final = 65536
LONGEST_MAP: Final = 64


def read_binary(data: bytes | bytearray | memoryview) -> Map:
    """Parse one msgpack map; its binary fields are copied once and not looked at.

    Raises:
        MalformedMessage: Not exactly one msgpack map with distinct string keys.
    """
    try:
        parsed = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_distinct,
            max_str_len=LONGEST_STRING,
            max_array_len=LONGEST_ARRAY,
            max_map_len=LONGEST_MAP,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise _malformed("msgpack", error) from None
    return _as_map(parsed)


def read_text(text: str) -> Map:
    """Parse one JSON object.

    NaN and infinities parse, so that the field that holds one can be named.

    Raises:
        MalformedMessage: Not exactly one JSON object with distinct keys.
    """
    try:
        parsed = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise _malformed("JSON", error) from None
    return _as_map(parsed)


def write_binary(raw: Map) -> bytes:
    """Encode a map as msgpack, each value in its shortest form."""
    packed: bytes = msgpack.packb(raw)
    return packed


def write_text(raw: Map) -> str:
    """Encode a map as JSON without spaces; bytes become base64.

    Raises:
        ValueError: A float is NaN or infinite.
    """
    return json.dumps(
        raw, separators=(",", ":"), allow_nan=False, default=_bytes_as_base64
    )


def _bytes_as_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _distinct(pairs: list[tuple[Any, Any]]) -> Map:
    """Build a map, but never one that two readers could take differently."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedMessage("a key appears twice in one map")
    if not all(type(key) is str for key in result):
        raise MalformedMessage("a key is not a string")
    return result


def _as_map(parsed: Any) -> Map:
    if type(parsed) is not dict:
        raise MalformedMessage(f"it is not a map but {type(parsed).__name__}")
    return parsed


def _malformed(form: str, error: Exception) -> MalformedMessage:
    return MalformedMessage(f"not one complete {form} value ({clip(str(error))})")


# >>> merged from server.protocol.text_events
# >>> """The `events` message as people write it: base64, or a list of `[t, x, y, p]`."""

_COLUMNS: Final[tuple[tuple[str, Parse], ...]] = (
    ("t", integer(0, LARGEST_TIME_US - 1)),
    ("x", integer(0, 65535)),
    ("y", integer(0, 32767)),
    ("p", integer(0, 1)),
)


def as_packed(raw: Map, encoding: Encoding) -> Map:
    """Turn an `events` message parsed from JSON into what msgpack would have given.

    Raises:
        InvalidField: `data` is not base64, or `events` not a list of events, or
            the session's encoding is not that of a list.
    """
    if "events" in raw:
        if encoding != "packed":
            reason = f"must come as 'data' in a session opened with {encoding}"
            raise InvalidField("events", reason)
        return _from_list(raw)
    if type(raw.get("data")) is not str:
        return raw
    try:
        data = base64.b64decode(raw["data"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidField("data", "is not base64", raw["data"]) from None
    return {**raw, "data": data}


def counted_bytes(raw: Map) -> int:
    """Return the length of a frame's `data` as its sender counts it, or 0."""
    if type(raw.get("events")) is list:
        return RECORD_BYTES * len(raw["events"])
    return len(raw["data"]) if type(raw.get("data")) is bytes else 0


def _from_list(raw: Map) -> Map:
    rows = raw["events"]
    if type(rows) is not list:
        raise wrong_type(rows, "events", "an array")
    if "data" in raw:
        raise InvalidField("data", "does not go with 'events', which stands for it")
    t_base_us = time_base_us(raw.get("t_base_us", 0), "t_base_us")
    table = _table(rows)
    t_us = table[:, 0]
    earliest_us = int(t_us.min()) if rows else 0
    late = t_us - earliest_us >= OFFSET_LIMIT_US
    if late.any():
        index = int(np.argmax(late))
        reason = f"is {OFFSET_LIMIT_US} µs or more after the earliest of the frame"
        raise InvalidField(f"events[{index}].t", reason, rows[index][0])
    events = np.empty(len(rows), EVENT_DTYPE)
    for column, (name, _) in enumerate(_COLUMNS):
        events[name] = table[:, column]
    kept = {name: value for name, value in raw.items() if name != "events"}
    return {
        **kept,
        "t_base_us": t_base_us + earliest_us,
        "data": pack(events, earliest_us),
    }


def _table(rows: list[Any]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Check each number, and return them as an array of shape (n, 4)."""
    for index, row in enumerate(rows):
        if type(row) is not list:
            raise wrong_type(row, f"events[{index}]", "[t, x, y, p]")
        if len(row) != len(_COLUMNS):
            reason = f"must be [t, x, y, p], not {len(row)} values"
            raise InvalidField(f"events[{index}]", reason, row)
    flat = list(chain.from_iterable(rows))
    if set(map(type, flat)) <= {int}:
        table = _within_range(flat)
        if table is not None:
            return table
    for index, row in enumerate(rows):
        for (name, parse), value in zip(_COLUMNS, row, strict=True):
            parse(value, f"events[{index}].{name}")
    raise AssertionError("the quick check and the slow one disagree")


def _within_range(
    flat: list[int],
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]] | None:
    try:
        table = np.array(flat, np.int64).reshape(-1, len(_COLUMNS))
    except OverflowError:
        return None
    limits = np.array([LARGEST_TIME_US, 65536, 32768, 2])
    return table if bool(((table >= 0) & (table < limits)).all()) else None


# >>> merged from server.protocol.codec
# >>> """Bytes or text to message, and message to bytes or text; four functions.
# >>>
# >>> Bytes are msgpack, text is JSON. What a client sends is read strictly: a field
# >>> that is unknown is a typing error, and is refused. What a server sends is read
# >>> leniently: a newer server may have more to say.
# >>> """

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
        raise UnsupportedProtocol(version, PROTOCOL_VERSION)


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
