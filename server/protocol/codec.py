"""Messages to and from bytes (msgpack) or text (JSON).

A client's message is read strictly, so that a mistyped field is named; a server's is
read leniently, so that a newer server may add fields.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from itertools import chain
from typing import Any, Final, TypeAlias, get_args

import msgpack
import numpy as np
import numpy.typing as npt

from saccade.model.events.encodings.packed import OFFSET_LIMIT_US, RECORD_BYTES, pack
from saccade.model.events.types import EVENT_DTYPE
from saccade.server.protocol.errors import (
    FrameTooLarge,
    InvalidField,
    MalformedMessage,
    UnsupportedProtocol,
    clip,
    kind_of,
)
from saccade.server.protocol.fields import (
    Map,
    Record,
    did_you_mean,
    integer,
    wrong_type,
)
from saccade.server.protocol.messages import (
    LARGEST_TIME_US,
    PROTOCOL_VERSION,
    Ack,
    ClientMessage,
    Encoding,
    EventsFrame,
    Result,
    ResultBatch,
    ServerMessage,
)

Wire: TypeAlias = bytes | str
"""One websocket message: binary is msgpack, text is JSON."""
LONGEST_STRING: Final = 65536
LONGEST_ARRAY: Final = 65536
LONGEST_MAP: Final = 64

_RECORDS: Final[dict[type, Record[Any]]] = {
    kind: Record(kind) for kind in (*get_args(ClientMessage), *get_args(ServerMessage))
}
CLIENT_RECORDS: Final = {m.type: _RECORDS[m] for m in get_args(ClientMessage)}
SERVER_RECORDS: Final = {m.type: _RECORDS[m] for m in get_args(ServerMessage)}
_EVENTS: Final = CLIENT_RECORDS["events"]


def decode_client(
    data: Wire, *, max_bytes: int | None = None, encoding: Encoding = "packed"
) -> ClientMessage:
    """Read a client's message.

    Args:
        data: One websocket message.
        max_bytes: The longest message to look at; None is no limit.
        encoding: The session's encoding. A list of `events` in JSON stands for packed
            records only.

    Raises:
        ProtocolError: Its `fatal` says whether the session can go on.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise FrameTooLarge(len(data), max_bytes)
    name, raw = _parse(data)
    record = _record(name, CLIENT_RECORDS)
    if name == "open":
        _check_version(raw)
    if name == "events":
        return _read_events(raw, encoding if isinstance(data, str) else None)
    message: ClientMessage = record.read(raw)
    return message


def decode_server(data: Wire) -> ServerMessage:
    """Read a server's message, without the fields that this version does not know.

    Raises:
        ProtocolError: Not a message of this protocol.
    """
    name, raw = _parse(data)
    message: ServerMessage = _record(name, SERVER_RECORDS).read_known(raw)
    return message


def encode_client(message: ClientMessage, *, text: bool = False) -> Wire:
    """Write a client's message, as msgpack or as JSON text."""
    return _encode(message, text=text)


def encode_server(message: ServerMessage, *, text: bool) -> Wire:
    """Write a server's message in the form that the client used to open.

    Raises:
        ValueError: A logit is NaN or infinite; the engine's scores are checked before.
    """
    if not text:
        if type(message) is Result:
            return _encode_result(message)
        if type(message) is Ack:
            return _encode_ack(message)
    logits = getattr(message, "logits", None)
    if logits is not None and not all(map(math.isfinite, logits)):
        raise ValueError("a logit is not finite")
    return _encode(message, text=text)


_PACKER: Final = msgpack.Packer()


def _encode_result(message: Result) -> bytes:
    """Write a `result` as msgpack: the bytes of `_encode` in a third of the time."""
    logits = message.logits
    if not (math.isfinite(sum(logits)) or all(map(math.isfinite, logits))):
        raise ValueError("a logit is not finite")
    raw = {
        "type": "result",
        "seq": message.seq,
        "ticks": message.ticks,
        "events": message.events,
        "t_us": message.t_us,
        "logits": logits,
        "label": message.label,
        "confidence": message.confidence,
    }
    if message.dropped is not None:
        raw["dropped"] = message.dropped
    if message.superseded:
        raw["superseded"] = message.superseded
    packed: bytes = _PACKER.pack(raw)
    return packed


def encode_results(batch: ResultBatch, *, text: bool) -> list[Wire]:
    """Write each result of a batch, as `encode_server` does.

    Thousands of them leave in a second, and nothing else does: they share one map, in
    which only the columns' fields change. That logits are finite was checked once for
    all, when the scores came from the engine.
    """
    if text:
        return [encode_server(message, text=True) for message in batch]
    raw = {"type": "result", "seq": batch.seq, "ticks": 0, "events": 0, "t_us": 0}
    raw |= {"logits": [], "label": "", "confidence": 0.0}
    if batch.dropped is not None:
        raw["dropped"] = batch.dropped
    columns = (batch.ticks, batch.t_us, batch.logits, batch.labels, batch.confidence)
    written: list[Wire] = []
    for ticks, t_us, logits, label, confidence in zip(*columns, strict=True):
        raw["ticks"], raw["events"] = ticks, ticks * batch.tick_events
        raw["t_us"], raw["logits"] = t_us, logits
        raw["label"], raw["confidence"] = label, confidence
        written.append(_PACKER.pack(raw))
    return written


def _encode_ack(message: Ack) -> bytes:
    """Write an `ack` as msgpack, as `_encode` does: one leaves for most frames."""
    raw = {
        "type": "ack",
        "seq": message.seq,
        "events": message.events,
        "bytes": message.bytes,
        "durable_seq": message.durable_seq,
    }
    for name in ("dropped", "lag_ms", "window_events", "skipped", "resume"):
        value = getattr(message, name)
        if value is not None:
            raw[name] = value
    packed: bytes = _PACKER.pack(raw)
    return packed


def _encode(message: ClientMessage | ServerMessage, *, text: bool) -> Wire:
    raw = {"type": message.type, **_RECORDS[type(message)].write(message)}
    return write_message(raw, text=text)


def write_message(raw: Map, *, text: bool) -> Wire:
    """Write a message's map, as msgpack or as JSON text."""
    if text:
        return json.dumps(
            raw, separators=(",", ":"), allow_nan=False, default=_bytes_as_base64
        )
    packed: bytes = msgpack.packb(raw)
    return packed


def _bytes_as_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _parse(data: Wire) -> tuple[str, Map]:
    """Return a message's type and its fields, unchecked."""
    raw = _parse_text(data) if isinstance(data, str) else _parse_binary(data)
    if type(raw) is not dict:
        raise MalformedMessage(f"it is not a map but {kind_of(raw)}")
    name = raw.pop("type", None)
    if type(name) is not str:
        raise MalformedMessage("it has no 'type' that is a string")
    return name, raw


def _parse_binary(data: bytes) -> Any:
    """Parse one msgpack value; its binary fields are copied once and not looked at."""
    try:
        return msgpack.unpackb(
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


def _parse_text(text: str) -> Any:
    """Parse one JSON value; NaN and infinities too, so that their field is named."""
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise _malformed("JSON", error) from None


def _malformed(form: str, error: Exception) -> MalformedMessage:
    return MalformedMessage(f"not one complete {form} value ({clip(str(error))})")


def _distinct(pairs: list[tuple[Any, Any]]) -> Map:
    """Build a map, but never one that two readers could take differently."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedMessage("a key appears twice in one map")
    if not all(type(key) is str for key in result):
        raise MalformedMessage("a key is not a string")
    return result


def _record(name: str, records: dict[str, Record[Any]]) -> Record[Any]:
    record = records.get(name)
    if record is None:
        hint = did_you_mean(name, tuple(records))
        raise MalformedMessage(f"its type {clip(name)!r} is unknown{hint}")
    return record


def _check_version(raw: Map) -> None:
    """Refuse another version for that, before its fields are found unknown."""
    version = raw.get("protocol", PROTOCOL_VERSION)
    if type(version) in {int, float} and version != PROTOCOL_VERSION:
        raise UnsupportedProtocol(version, PROTOCOL_VERSION)


def _read_events(raw: Map, text_encoding: Encoding | None) -> EventsFrame:
    """Read a frame such that its errors refuse that frame and no more.

    Args:
        raw: The frame's fields.
        text_encoding: The session's encoding where the frame came as JSON text.
    """
    if "seq" not in raw:
        raise InvalidField("seq", "is missing")
    seq = _EVENTS.parse("seq", raw["seq"])
    try:
        raw = {name: value for name, value in raw.items() if value is not None}
        if text_encoding is not None:
            raw = _with_binary_data(raw, text_encoding)
        frame: EventsFrame = _EVENTS.read(raw)
    except InvalidField as error:
        raise dataclasses.replace(error, seq=seq, size=_data_bytes(raw)) from None
    return frame


def _data_bytes(raw: Map) -> int:
    """Return the length of a frame's `data` as its sender counts it, or 0."""
    if type(raw.get("events")) is list:
        return RECORD_BYTES * len(raw["events"])
    return len(raw["data"]) if type(raw.get("data")) is bytes else 0


def _with_binary_data(raw: Map, encoding: Encoding) -> Map:
    """Return a frame parsed from JSON as msgpack would have given it.

    Raises:
        InvalidField: `data` is not base64, or `events` not a list of events, or
            the session's encoding is not that of a list.
    """
    if "events" in raw:
        if encoding != "packed":
            reason = f"must come as 'data' in a session opened with {encoding}"
            raise InvalidField("events", reason)
        return _pack_list(raw)
    if type(raw.get("data")) is not str:
        return raw
    try:
        data = base64.b64decode(raw["data"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidField("data", "is not base64", raw["data"]) from None
    return {**raw, "data": data}


_LIMITS: Final = {"t": LARGEST_TIME_US, "x": 65536, "y": 32768, "p": 2}
_COLUMNS: Final = {name: integer(0, limit - 1) for name, limit in _LIMITS.items()}
Int64s: TypeAlias = npt.NDArray[np.int64]
_Table: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def _pack_list(raw: Map) -> Map:
    """Replace a frame's list of `[t, x, y, p]` by packed records."""
    rows = raw["events"]
    if type(rows) is not list:
        raise wrong_type(rows, "events", "an array")
    if "data" in raw:
        raise InvalidField("data", "does not go with 'events', which stands for it")
    t_base_us = _EVENTS.parse("t_base_us", raw.get("t_base_us", 0))
    table = _table(rows)
    start_us = _records_base(table[:, 0], t_base_us)
    events = np.empty(len(rows), EVENT_DTYPE)
    for column, name in enumerate(_COLUMNS):
        events[name] = table[:, column]
    kept = {name: value for name, value in raw.items() if name != "events"}
    return {
        **kept,
        "t_base_us": t_base_us + start_us,
        "data": pack(events, start_us),
    }


def _records_base(t_us: Int64s, t_base_us: int) -> int:
    """Return what the records of a list of events count from, after `t_base_us`.

    Zero, unless an event is too late for that: then the earliest event.

    Raises:
        InvalidField: The events are too far apart, or too late.
    """
    if not t_us.size or t_us.max() < OFFSET_LIMIT_US:
        return 0
    start_us = int(t_us.min())
    late = t_us - start_us >= OFFSET_LIMIT_US
    if late.any():
        index = int(np.argmax(late))
        reason = f"is {OFFSET_LIMIT_US} µs or more after the earliest of the frame"
        raise InvalidField(f"events[{index}].t", reason, int(t_us[index]))
    if t_base_us + start_us > LARGEST_TIME_US:
        index = int(np.argmin(t_us))
        reason = "with 't_base_us' is beyond 2^62 µs"
        raise InvalidField(f"events[{index}].t", reason, start_us)
    return start_us


def _table(rows: list[Any]) -> _Table:
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
    values = [
        column.parse(value, f"events[{index}].{name}")
        for index, row in enumerate(rows)
        for (name, column), value in zip(_COLUMNS.items(), row, strict=True)
    ]
    return np.array(values, np.int64).reshape(-1, len(_COLUMNS))


def _within_range(flat: list[int]) -> _Table | None:
    try:
        table = np.array(flat, np.int64).reshape(-1, len(_COLUMNS))
    except OverflowError:
        return None
    fits = (table >= 0) & (table < np.array([*_LIMITS.values()]))
    return table if bool(fits.all()) else None
