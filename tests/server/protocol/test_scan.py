"""The quick reading of `events` messages finds what the strict reading finds."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings, strategies as st

from saccade.server.protocol.codec import decode_client, encode_client
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import EventsFrame
from saccade.server.protocol.scan import scan
from tests.server.protocol import strategies
from tests.server.protocol.test_fuzz import mutated

FIELDS = {"type": "events", "seq": 5, "t_base_us": 300, "data": b"12345678"}
integers = st.sampled_from(
    [0, 1, 127, 128, 255, 256, 2**16, 2**32, 2**53, 2**53 + 1, 2**62, 2**62 + 1]
)


def agree(message: bytes) -> bool:
    """Hold the two readings equal; return whether the quick one knew the message."""
    found = scan(message)
    if found is None:
        return False
    assert found == decode_client(message)
    return True


@given(strategies.frames)
def test_a_clients_frame_is_found(frame: EventsFrame) -> None:
    assert agree(encode_client(frame))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536])
def test_data_of_any_length_is_found_and_is_no_copy(size: int) -> None:
    message = encode_client(EventsFrame(1, bytes(size)))
    found = scan(message)
    assert found is not None
    assert isinstance(found.data, memoryview)
    assert (found.data.obj, len(found.data)) == (message, size)


@pytest.mark.parametrize("order", [*permutations(FIELDS)])
def test_the_fields_come_in_any_order_with_or_without_a_base(order: Any) -> None:
    assert agree(msgpack.packb({name: FIELDS[name] for name in order}))
    without = [name for name in order if name != "t_base_us"]
    assert agree(msgpack.packb({name: FIELDS[name] for name in without}))


@given(integers, integers)
def test_integers_out_of_range_are_left_to_the_strict_reading(
    seq: int, t_base_us: int
) -> None:
    message = msgpack.packb(FIELDS | {"seq": seq, "t_base_us": t_base_us})
    known = 1 <= seq <= 2**53 and t_base_us <= 2**62
    assert agree(message) == known


def entries(*pairs: tuple[str, Any], said: int | None = None) -> bytes:
    """A msgpack map of some entries, whatever number of them it claims."""
    packed = b"".join(msgpack.packb(part) for pair in pairs for part in pair)
    return bytes([0x80 | (len(pairs) if said is None else said)]) + packed


@pytest.mark.parametrize("doubled", FIELDS)
@pytest.mark.parametrize("said", [3, 4, 5])
@pytest.mark.parametrize("left_out", [None, *FIELDS])
def test_a_field_that_comes_twice_is_left_to_the_strict_reading(
    doubled: str, said: int, left_out: str | None
) -> None:
    fields = [(name, value) for name, value in FIELDS.items() if name != left_out]
    for at in range(len(fields) + 1):
        pairs = [*fields[:at], (doubled, FIELDS[doubled]), *fields[at:]]
        assert not agree(entries(*pairs, said=said)) or left_out == doubled


def test_a_base_that_is_as_long_as_a_type_does_not_stand_for_it() -> None:
    base = ("t_base_us", 200)
    message = entries(("seq", 1), base, base, ("data", b""))
    assert not agree(message)


@settings(max_examples=300)
@given(mutated(strategies.frames.map(strategies.encoded)))
@example(b"")
@example(b"\x83")
def test_a_damaged_message_is_found_only_if_the_strict_reading_takes_it(
    message: bytes,
) -> None:
    agree(message)


@given(st.permutations([*FIELDS]), st.data())
def test_every_byte_counts(order: list[str], data: st.DataObject) -> None:
    message = bytearray(msgpack.packb({name: FIELDS[name] for name in order}))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] = data.draw(st.integers(0, 255))
    agree(bytes(message))
    assert not agree(bytes(message[:at]))
    assert not agree(bytes(message) + b"\0")


def test_what_the_strict_reading_refuses_is_never_found() -> None:
    for message in (b"", b"\x80", msgpack.packb({"type": "events"})):
        with pytest.raises(ProtocolError):
            decode_client(message)
        assert scan(message) is None
