"""What a client says when all is well, and what hostile hands make of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np

from saccade.model.events.encodings.packed import pack
from saccade.model.events.fit import fit
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import DEFAULT_SENSOR, simulate
from saccade.model.events.types import Events
from saccade.server.protocol.codec import Wire, encode_client
from saccade.server.protocol.messages import (
    Close,
    EventsFrame,
    Flush,
    Open,
    Report,
    Reset,
)

SENSOR = Sensor(34, 34)
RECORDINGS = Path(__file__).parents[2] / "shared" / "recordings"
FRAME_EVENTS = 40
FRAMES = 30
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)),
    *(
        0.5,
        float("nan"),
        float("inf"),
        "",
        "x" * 300,
        "\ud800",
        b"",
        b"\xff" * 9,
        bytes(5000),
    ),
    *([], [[]], [[0, 1, 2, 3]], [34, 34], {}, {"every": "tick"}, {"window": "session"}),
)
BYTES = (b"\x00", b"\xff", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff")


class Capture(NamedTuple):
    """One session's messages, `open` first."""

    name: str
    messages: list[Wire]


def captures() -> list[Capture]:
    """Return real recordings as clients send them; without those, simulated ones."""
    digit = _digit()
    frames = [
        EventsFrame(seq, pack(part, base_us := int(part["t"][0])), t_base_us=base_us)
        for seq, part in enumerate(_cut(digit), start=1)
    ]
    opening = Open("nmnist", report=Report("events", 1000))
    last = [Flush(7), Reset(8), Close()]
    scripts = {
        "packed": [opening, *frames, *last],
        "evt2": [Open("nmnist", sensor=Sensor(640, 480), encoding="evt2", fit="scale"),
                 *_raw_frames("evt2_640x480.raw", _evt2(digit)), *last],
        "evt3": [Open("nmnist", sensor=Sensor(640, 480), encoding="evt3", fit="crop"),
                 *_raw_frames("evt3_640x480.raw", bytes(4096)), *last],
    }  # fmt: skip
    made = [
        Capture(f"{name}, {'text' if text else 'msgpack'}",
                [encode_client(message, text=text) for message in script])
        for name, script in scripts.items() for text in (False, True)
    ]  # fmt: skip
    return [*made, _listed(digit)]


def _digit() -> Events:
    path = RECORDINGS / "nmnist_sample.bin"
    if path.exists():
        return np.concatenate([*open_recording(path).events])
    filmed = simulate("clockwise", seed=1, duration_us=200_000)
    return fit(filmed, DEFAULT_SENSOR, SENSOR, "scale")


def _cut(events: Events) -> list[Events]:
    return [
        events[start : start + FRAME_EVENTS]
        for start in range(0, FRAMES * FRAME_EVENTS, FRAME_EVENTS)
    ]


def _raw_frames(name: str, otherwise: bytes) -> Iterator[EventsFrame]:
    words, path = otherwise, RECORDINGS / name
    if path.exists():
        words = path.read_bytes()
        while words.startswith(b"%"):
            words = words.partition(b"\n")[2]
    for seq in range(1, FRAMES + 1):
        yield EventsFrame(seq, words[160 * (seq - 1) : 160 * seq])


def _evt2(events: Events) -> bytes:
    t = events["t"].astype(np.uint32)
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = 8 << 28 | t >> 6
    words[:, 1] = (t & 63) << 22 | events["x"].astype(np.uint32) << 11 | events["y"]
    words[:, 1] |= events["p"].astype(np.uint32) << 28
    return words.tobytes()


def _listed(events: Events) -> Capture:
    frames = [
        f'{{"type":"events","seq":{seq},"events":{[[*map(int, e)] for e in part]}}}'
        for seq, part in enumerate(_cut(events), start=1)
    ]
    return Capture(
        "lists", ['{"type":"open","model":"nmnist"}', *frames, '{"type":"close"}']
    )


class Said(NamedTuple):
    """One message of a script."""

    wire: Wire
    damaged: bool


class Mutator:
    """Damages messages; the same seed does the same damage."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def script(self, messages: list[Wire]) -> list[Said]:
        """Return a part of a session, with one message in three damaged or moved."""
        part = self.part(messages)
        shares = [0.03, *(0.35 for _ in part[1:])]
        script = [
            Said(self.wire(data), damaged=True)
            if self.random.random() < share
            else Said(data, damaged=False)
            for data, share in zip(part, shares, strict=True)
        ]
        if self.random.random() < 0.1:
            at, to = (self.random.randrange(len(script)) for _ in range(2))
            script.insert(to, Said(script[at].wire, damaged=True))
        return script

    def part(self, messages: list[Wire]) -> list[Wire]:
        """Return a session's first message, and six others as if they followed it."""
        first = self.random.randrange(1, len(messages))
        return [messages[0], *self._renumbered(messages[first : first + 6])]

    def wire(self, data: Wire) -> Wire:
        """Damage one message."""
        if self.random.random() < 0.4:
            return self._value(data)
        if self.random.random() < 0.1:  # the other form
            return data.encode() if isinstance(data, str) else data.decode("latin-1")
        if isinstance(data, str):
            return self.octets(data.encode()).decode("utf-8", "replace")
        return self.octets(data)

    def octets(self, data: bytes) -> bytes:
        """Flip, insert, cut, repeat or truncate, at most four times."""
        wire = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(wire) + 1)
            end = at + self.random.randint(1, 12)
            match self.random.randrange(6):
                case 0 | 1 if at < len(wire):
                    wire[at] ^= 1 << self.random.randrange(8)
                case 2:
                    wire[at:at] = self.random.choice(BYTES)
                case 3:
                    del wire[at:end]
                case 4:
                    wire[at:at] = wire[at:end]
                case _:
                    wire[at:end] = self.random.randbytes(end - at)
        return bytes(wire)

    def _value(self, data: Wire) -> Wire:
        """Give a field another value, or another name, or leave it out."""
        if isinstance(data, str):
            at = self.random.randrange(len(data))
            value = self.random.choice(["null", "-1", "1e999", "NaN", '"', "[", "}"])
            return data[:at] + value + data[at + self.random.randrange(3) :]
        raw = msgpack.unpackb(data)
        name = self.random.choice([*raw])
        if self.random.random() < 0.5 and type(raw.get("data")) is bytes:
            return msgpack.packb(raw | {"data": self.octets(raw["data"])})
        match self.random.randrange(4):
            case 0:
                del raw[name]
            case 1:
                raw[self.random.choice(["", "seq", "t_base_us", "resume"])] = raw[name]
            case _:
                raw[name] = self.random.choice(VALUES)
        return msgpack.packb(raw, unicode_errors="surrogatepass")

    def _renumbered(self, messages: list[Wire]) -> list[Wire]:
        """Let frames count from 1, so that most of the damage is behind that check."""
        renumbered: list[Wire] = []
        for seq, data in enumerate(messages, start=1):
            if isinstance(data, bytes):
                raw = msgpack.unpackb(data)
                renumbered.append(
                    msgpack.packb(raw | {"seq": seq} if "seq" in raw else raw)
                )
            else:
                old = data.partition('"seq":')[2].partition(",")[0]
                renumbered.append(data.replace(f'"seq":{old},', f'"seq":{seq},', 1))
        return renumbered
