"""The two forms of a message: a msgpack map, and the same map as JSON text."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import msgpack

from saccade.server.protocol.errors import MalformedMessage
from saccade.server.protocol.quoting import clip
from saccade.server.protocol.records import Map

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
