"""What passes between processes arrives as it was sent, however the bytes are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, strategies as st

from saccade.server.engine.commands import (
    Export,
    Fail,
    Insert,
    Release,
    Restore,
    Submit,
)
from saccade.server.engine.errors import BacklogFull, CanaryMismatch, EngineFailed
from saccade.server.engine.health import CanaryResult, Health, ModelHealth
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import ExportedRow, PagesDone, StreamFailed
from saccade.server.workers import channel
from saccade.server.workers.framing import FrameReader, framed

LEASE = Lease("toy@1", 3, 2**40)
ROW = (np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1j], np.complex64))
INTS = np.array([3, 1, 2], np.int32)


def same(one: Any, other: Any) -> bool:
    """Return whether two messages are equal, arrays and errors included."""
    if isinstance(one, np.ndarray):
        equal = np.array_equal(one, other)
        return equal and (one.dtype, one.shape) == (other.dtype, other.shape)
    if isinstance(one, Exception):
        return type(one) is type(other) and vars(one) == vars(other)
    if isinstance(one, list | tuple):
        parts = zip(one, other, strict=True)
        return len(one) == len(other) and all(same(*pair) for pair in parts)
    return bool(one == other)


def test_commands_arrive_as_they_were_sent() -> None:
    commands = [
        Insert(LEASE, float("inf")),
        Restore(LEASE, ROW),
        Submit("toy@1", INTS, INTS.astype(np.int64), INTS),
        Export(LEASE),
        Fail(LEASE, BacklogFull(1, 2, 3)),
        Release(LEASE),
    ]
    kind, received = channel.decode(channel.encode_commands(commands))
    assert kind == channel.COMMANDS
    assert [type(each) for each in received] == [type(each) for each in commands]
    assert same(commands, received)


def test_outputs_arrive_as_they_were_sent() -> None:
    outputs = [
        PagesDone("toy@1", INTS, INTS.astype(np.int64), INTS, INTS, scored=True),
        ExportedRow(LEASE, list(ROW)),
        StreamFailed(LEASE, EngineFailed("RuntimeError")),
        StreamFailed(LEASE, CanaryMismatch("toy", "1x1", "cpu", 0.5)),
    ]
    kind, received = channel.decode(channel.encode_outputs(outputs))
    assert kind == channel.OUTPUTS
    assert [type(each) for each in received] == [type(each) for each in outputs]
    assert same(outputs, received)


def test_health_arrives_as_it_was() -> None:
    health = Health(
        {
            "a": ModelHealth("ready", canary=CanaryResult("tf32", 2e-4)),
            "b": ModelHealth("starting", "x", "bucket 1x1"),
        }
    )
    assert channel.health_from_plain(channel.health_to_plain(health)) == health


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_messages_are_whole_however_the_stream_is_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    stream, reader = b"".join(map(framed, messages)), FrameReader()
    received = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += reader.feed(stream[:size])
        stream = stream[size:]
    assert received == messages
