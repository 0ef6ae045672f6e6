"""Damaged frames through compiled ingest whose buffers end at inaccessible pages.

    python -m tests.server.protocol.guarded_ingest --frames 100000

Each frame is read by two conversations, one with compiled code and one with NumPy's,
and both must do the same. Whatever the compiled code is given lies directly before a
page without access (`--edge start`: behind one), so that a read or write outside a
buffer ends the process with SIGSEGV. `--short-table` gives it too short a table, to see
that this is so. With NUMBA_BOUNDSCHECK=1 numba checks each index too, and raises
IndexError.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from saccade.model.compiled_ingest import CompiledIngest, prepare
from saccade.model.events.encodings.packed import RECORD_BYTES
from saccade.model.events.fit import POLICIES
from saccade.model.events.sensor import Sensor
from saccade.model.ingest import IngestConfig, NumpyIngest
from saccade.model.tokens import SCHEMES, Tokenization
from saccade.server.protocol.codec import Wire, decode_client, encode_client
from saccade.server.protocol.conversation import Conversation, Feed, Limits, Stage
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import Open
from tests.fuzzing import SENSOR, Mutator, captures

LIMITS: Final = Limits(max_frame_bytes=4096, window_events=4096)
MOST_BYTES: Final = 16 * LIMITS.window_events
"""More than any array that a frame needs."""
NO_ACCESS: Final = 0
SENSORS: Final = (SENSOR, Sensor(34, 34, 1), Sensor(40, 20), Sensor(640, 480))
CLOCKS: Final = (None, None, 16, 24)

Array = npt.NDArray[Any]


class GuardedMemory:
    """Memory between two pages without access."""

    def __init__(self) -> None:
        page = mmap.PAGESIZE
        self._start = page
        self._end = page + -(-MOST_BYTES // page) * page
        self._memory = mmap.mmap(-1, self._end + page)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for address in (first, first + self._end):
            refused = ctypes.CDLL(None, use_errno=True).mprotect(
                ctypes.c_void_p(address), ctypes.c_size_t(page), NO_ACCESS
            )
            assert not refused, os.strerror(ctypes.get_errno())

    def copy(self, array: Array, edge: str) -> Array:
        """Return a copy of an array that touches the page after it, or before it."""
        start = self._end - array.nbytes if edge == "end" else self._start
        held = np.frombuffer(self._memory, array.dtype, len(array), start)
        held[:] = array
        held.flags.writeable = array.flags.writeable
        return held


class Guard:
    """Calls a compiled function with guarded copies of its arrays."""

    def __init__(self, take: Callable[..., int], edge: str) -> None:
        self._take = take
        self._edge = edge
        self._memories = [GuardedMemory() for _ in range(6)]
        self.calls = 0

    def __call__(self, *given: Any) -> int:
        self.calls += 1
        held = [
            memory.copy(value, self._edge) if isinstance(value, np.ndarray) else value
            for memory, value in zip(self._memories, given, strict=False)
        ]
        kept = self._take(*held)
        for value, copy in zip(given, held, strict=True):
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value[:] = copy
        return kept


class Guards:
    """The guards of all sessions."""

    def __init__(self, edge: str, *, short_table: bool) -> None:
        self._short_table = short_table
        self._guards = [Guard(take, edge) for take in prepare()]

    @property
    def calls(self) -> int:
        """Frames that compiled code was given."""
        return sum(guard.calls for guard in self._guards)

    def new_ingest(self, config: IngestConfig) -> CompiledIngest:
        """Return a session's ingest, guarded."""
        ingest = CompiledIngest(config)
        ingest._take_records, ingest._take_events = self._guards
        if self._short_table:
            ingest._table = ingest._table[:-1]
        return ingest


def script(mutator: Mutator, messages: list[Wire]) -> list[Wire]:
    """Return a part of a session, with nine of ten frames damaged."""
    sent = mutator.part(messages)
    for at, wire in enumerate(sent[1:], start=1):
        kind, fields = mutator.random.random(), msgpack.unpackb(wire)
        if kind < 0.1:
            sent[at] = mutator.wire(wire)
        elif kind < 0.9 and "data" in fields:
            data = mutator.octets(fields["data"])
            if kind < 0.8:
                data = data[: len(data) // RECORD_BYTES * RECORD_BYTES]
            sent[at] = msgpack.packb(fields | {"data": data})
    return sent


def opening(mutator: Mutator, captured: Wire) -> Open:
    """Return a session's beginning: as captured, but any sensor, fit and clock."""
    encoding = decode_client(captured).encoding
    raw = encoding != "packed"
    return Open(
        "any",
        encoding=encoding,
        sensor=SENSORS[-1] if raw else mutator.random.choice(SENSORS),
        fit=mutator.random.choice([*POLICIES]),
        clock_bits=None if raw else mutator.random.choice(CLOCKS),
    )


def outcome(conversation: Conversation, wire: Wire) -> Any:
    """Return what reading a message does, as something that can be compared."""
    try:
        requests = conversation.read(wire)
    except ProtocolError as error:
        return type(error), str(error), error.facts()
    return [
        (*(column.tobytes() for column in request.chunk), request.size)
        if isinstance(request, Feed)
        else request
        for request in requests
    ]


def play(mutator: Mutator, messages: list[Wire], guards: Guards) -> int:
    """Read a part of a session in both ways, until it is refused.

    Returns:
        How many of its messages were read.
    """
    sent, begin = script(mutator, messages), opening(mutator, messages[0])
    tokenization = Tokenization(
        mutator.random.choice([*SCHEMES]),
        mutator.random.choice(SENSORS[:3]),
        mutator.random.randint(1, 3),
    )
    ways = guards.new_ingest, NumpyIngest
    conversations = [Conversation(LIMITS, way) for way in ways]
    for conversation in conversations:
        conversation.read(encode_client(begin))
        try:
            conversation.begin(tokenization)
        except ProtocolError:
            return 0
    for count, wire in enumerate(sent[1:], start=1):
        compiled, reference = (outcome(each, wire) for each in conversations)
        assert compiled == reference, (wire, compiled, reference)
        if conversations[0].stage is not Stage.OPEN:
            return count
        states = [each.export_state() for each in conversations]
        assert states[0] == states[1], wire
    return len(sent) - 1


def main() -> None:
    """Give the compiled code so many frames, most of them damaged."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--edge", choices=["start", "end"], default="end")
    parser.add_argument("--short-table", action="store_true")
    options = parser.parse_args()
    mutator = Mutator(options.seed)
    guards = Guards(options.edge, short_table=options.short_table)
    binary = [each for each in captures() if isinstance(each.messages[0], bytes)]
    read = 0
    while guards.calls < options.frames:
        read += play(mutator, mutator.random.choice(binary).messages, guards)
    sys.stdout.write(f"{read} messages read, {guards.calls} by compiled code\n")


if __name__ == "__main__":
    main()
