"""Finding the fields of an `events` message, without a copy of its `data`.

The common form is read here: a msgpack map of `type`, `seq`, `data` and perhaps
`t_base_us`, in any order, with nothing beside. Whatever else a message is, right or
wrong, `codec.decode_client` reads it.
"""

from __future__ import annotations

import re
from typing import Final

import msgpack

from saccade.server.protocol.messages import (
    LARGEST_INTEGER,
    LARGEST_TIME_US,
    EventsFrame,
)


def _packed(*values: str) -> bytes:
    return b"".join(map(msgpack.packb, values))


_TYPE: Final = _packed("type", EventsFrame.type)
_SEQ: Final = _packed("seq")
_BASE: Final = _packed("t_base_us")
_DATA: Final = _packed("data")
_UNSIGNED: Final = rb"([\0-\x7f]|\xcc.|\xcd..|\xce.{4}|\xcf.{8})"
_ENTRY: Final = b"(?:%b()|%b%b|%b%b)" % (
    re.escape(_TYPE), re.escape(_SEQ), _UNSIGNED, re.escape(_BASE), _UNSIGNED
)  # fmt: skip
_UP_TO_DATA: Final = re.compile(
    rb"[\x83\x84]%b{0,3}%b(?:\xc4(.)|\xc5(..)|\xc6(.{4}))" % (_ENTRY, _DATA), re.DOTALL
)
_AFTER_DATA: Final = re.compile(b"%b{0,3}" % _ENTRY, re.DOTALL)
_SHORTEST: Final = len(_TYPE) + len(_SEQ) + len(_DATA) + 2
"""The prefixes of the map and of the binary, and all that is always there."""
_MAP_OF_4: Final = 0x84


def scan(message: bytes) -> EventsFrame | None:
    """Return the frame of a message in the common form, None for any other.

    Its `data` lies in the memory of the message.
    """
    found = _UP_TO_DATA.match(message)
    if found is None:
        return None
    kind, seq, base, size_8, size_16, size_32 = found.groups()
    size, start = size_8 or size_16 or size_32, found.end()
    end = start + int.from_bytes(size)
    if end < len(message):
        rest = _AFTER_DATA.fullmatch(message, end)
        if rest is None:
            return None
        after = rest.groups()
        kind = kind if after[0] is None else after[0]
        seq, base = after[1] or seq, after[2] or base
    if kind is None or seq is None:
        return None
    # Each field is there, and each byte is accounted for: so each is there once.
    expected = _SHORTEST + len(size) + end - start + len(seq)
    if base is not None:
        expected += len(_BASE) + len(base)
    if len(message) != expected or (message[0] == _MAP_OF_4) != (base is not None):
        return None
    return _frame(_value(seq), _value(base or b"\0"), memoryview(message)[start:end])


def _value(digits: bytes) -> int:
    """Return the value of a msgpack integer that is not negative."""
    return digits[0] if len(digits) == 1 else int.from_bytes(digits[1:])


def _frame(seq: int, t_base_us: int, data: memoryview) -> EventsFrame | None:
    if not 1 <= seq <= LARGEST_INTEGER or t_base_us > LARGEST_TIME_US:
        return None
    return EventsFrame(seq, data, t_base_us=t_base_us)
