"""Events from UDP datagrams, in the layouts of faery and of SpiNNaker's spif.

| layout | an event is |
|---|---|
| `t64_x16_y16_on8` | faery's default, 13 bytes: t (µs), x, y, polarity |
| `t32_x16_y15_on1` | faery's, 8 bytes: t (µs), x, y << 1 or polarity |
| `spif` | a word: untimed << 31, x << 16, polarity << 15, y; then t (µs), if timed |

All numbers are little-endian; 32 bits of time wrap after 71 minutes. An event without
a timestamp gets the time of its arrival. A datagram that arrives after one with newer
events is left out and counted; a sender whose clock begins anew is followed, and time
goes on.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.source import Source, read_settings
from saccade.model.events.errors import MalformedPayload
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

LARGEST_DATAGRAM: Final = 1 << 16
DATAGRAMS_A_CHUNK: Final = 256
RECEIVE_BUFFER_BYTES: Final = 1 << 22
"""Asked of the system, for a burst; it may grant less."""
POLL_S: Final = 0.1
RESTART_US: Final = 1_000_000
"""A datagram that is older by more than this is of a clock that began anew."""
WRAP_US: Final = 1 << 32

Words: TypeAlias = npt.NDArray[Any]


def open_udp(text: str, sensor: Sensor | None) -> Source:
    """Bind to `udp://HOST:PORT?layout=…` and receive events from any sender.

    Raises:
        UnplayableSource: The address is none, or cannot be bound.
    """
    parts = urlsplit(text)
    settings = read_settings(text, parts.query, {"layout": "t64_x16_y16_on8"})
    layout = LAYOUTS.get(str(settings["layout"]))
    if layout is None:
        raise UnplayableSource(text, f"the layouts are {', '.join(LAYOUTS)}")
    bound = _bind(text, *host_and_port(text))
    findings = Findings()
    return Source(
        name=text,
        sensor=sensor,
        chunks=_receive(bound, Datagrams(layout, findings)),
        changes=True,
        live=True,
        when_full="drop-oldest",
        findings=findings,
    )


def host_and_port(text: str) -> tuple[str, int]:
    """Return the host and the port of a source such as `udp://0.0.0.0:3333`.

    Raises:
        UnplayableSource: There is no port, or none in range.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UnplayableSource(text, str(error)) from None
    if not port:
        example = f"{parts.scheme}://127.0.0.1:3333"
        raise UnplayableSource(text, f"it names no host and port, as {example}")
    return parts.hostname or "0.0.0.0", port


def _bind(text: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UnplayableSource(text, error.strerror or str(error)) from error
    bound.settimeout(0)
    return bound


def _receive(bound: socket.socket, datagrams: Datagrams) -> Iterator[Events]:
    """Yield the events of all datagrams that wait; an empty chunk if none comes."""
    with bound:
        while True:
            select.select([bound], [], [], POLL_S)
            yield datagrams.decode(_waiting(bound), time.monotonic_ns() // 1000)


def _waiting(bound: socket.socket) -> Iterator[bytes]:
    for _ in range(DATAGRAMS_A_CHUNK):
        try:
            yield bound.recv(LARGEST_DATAGRAM)
        except BlockingIOError:
            return


class Datagrams:
    """Decodes one socket's datagrams, whose clock goes on over wraps and restarts."""

    def __init__(self, layout: Layout, findings: Findings) -> None:
        self._layout = layout
        self._findings = findings
        self._newest_us: int | None = None
        self._shift_us = 0

    def decode(self, datagrams: Iterator[bytes], now_us: int) -> Events:
        """Return the events of datagrams that arrived at `now_us`, in their order."""
        found = [self._decode(data, now_us) for data in datagrams]
        return np.concatenate([np.empty(0, EVENT_DTYPE), *found])

    def _decode(self, data: bytes, now_us: int) -> Events:
        try:
            events = self._layout(data, now_us)
        except (MalformedPayload, ValueError):
            self._findings.skipped["malformed datagrams"] += 1
            return np.empty(0, EVENT_DTYPE)
        if not events.size:
            return events
        events["t"] += self._shift_us
        if self._newest_us is not None:
            step_us = int(events["t"][0]) - self._newest_us
            if -RESTART_US <= step_us < 0:
                self._findings.skipped["datagrams that came late"] += 1
                return events[:0]
            if step_us < 0:
                self._follow(events, step_us)
        self._newest_us = int(events["t"].max())
        return events

    def _follow(self, events: Events, step_us: int) -> None:
        """Let time go on where the sender's clock wrapped, or began anew."""
        wraps = self._layout is not t64_x16_y16_on8
        wrapped = wraps and step_us < -(WRAP_US >> 1)
        gained_us = WRAP_US if wrapped else -step_us
        if not wrapped:
            self._findings.skipped["restarts of the sender's clock"] += 1
        self._shift_us += gained_us
        events["t"] += gained_us


def t64_x16_y16_on8(data: bytes, now_us: int) -> Events:
    """Decode faery's default layout."""
    dtype = [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
    events = np.frombuffer(data, dtype).astype(EVENT_DTYPE)
    events["p"] = events["p"] != 0
    return events


def t32_x16_y15_on1(data: bytes, now_us: int) -> Events:
    """Decode faery's compact layout."""
    packed = np.frombuffer(data, [("t", "<u4"), ("x", "<u2"), ("y_on", "<u2")])
    events = np.empty(packed.size, EVENT_DTYPE)
    events["t"], events["x"] = packed["t"], packed["x"]
    events["y"], events["p"] = packed["y_on"] >> 1, packed["y_on"] & 1
    return events


def spif(data: bytes, now_us: int) -> Events:
    """Decode spif's words; all events of a datagram have timestamps, or none has.

    Raises:
        MalformedPayload: Words with and without timestamps are mixed.
    """
    words = np.frombuffer(data, "<u4")
    timed = bool(words.size) and not words[0] >> 31
    pixels = words[::2] if timed else words
    if (pixels >> 31 != (not timed)).any() or (timed and words.size % 2):
        raise MalformedPayload("spif", "words with and without timestamps are mixed")
    events = np.empty(pixels.size, EVENT_DTYPE)
    events["t"] = words[1::2] if timed else now_us
    events["x"], events["y"] = pixels >> 16 & 0x7FFF, pixels & 0x7FFF
    events["p"] = pixels >> 15 & 1
    return events


Layout: TypeAlias = Callable[[bytes, int], Events]
"""Decodes a datagram, given the time of its arrival, µs."""

LAYOUTS: Final[Mapping[str, Layout]] = {
    layout.__name__: layout for layout in (t64_x16_y16_on8, t32_x16_y15_on1, spif)
}
"""The layout of each name, faery's names where they are its."""
