"""Abusive clients of a server, each on its own thread.

    python -m benchmarks.nuisances URL MODEL SECONDS VANISHINGS

One floods, one never reads, one sends a byte a second, one opens and vanishes. The
output is the number of times that each did so, in JSON. `benchmarks.neighbours` runs
these clients beside well-behaved ones.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from saccade.clients.endpoint import authorization
from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.protocol.codec import encode_client
from saccade.server.protocol.messages import EventsFrame, Open

FRAME_EVENTS: Final = 8192
SIDE: Final = 34
"""Side of the square of pixels that both released models' sensors have."""


def some_events(count: int, start_us: int, seed: int = 0) -> Events:
    """Return events a µs apart at random pixels."""
    rng = np.random.default_rng(seed)
    events = np.zeros(count, EVENT_DTYPE)
    events["t"] = start_us + np.arange(count)
    for field, limit in (("x", SIDE), ("y", SIDE), ("p", 2)):
        events[field] = rng.integers(0, limit, count)
    return events


class Nuisances:
    """The abusive clients, each of which repeats one behaviour until the end.

    Args:
        url: The server.
        model: The model's name.
        seconds: Duration.
        vanishings: Number of times that `vanish` opens a session and disappears.
    """

    def __init__(self, url: str, model: str, seconds: float, vanishings: int) -> None:
        self._url, self._model = url, model
        self._vanishings = vanishings
        self._began_s = time.monotonic()
        self._seconds = seconds
        self.counts: dict[str, int] = {}

    def run(self) -> None:
        """Run all clients, and wait for their end."""
        kinds = (self.flood, self.never_read, self.drip, self.vanish)
        threads = [threading.Thread(target=self._repeat, args=(k,)) for k in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def flood(self) -> None:
        """Send as fast as the server reads, without regard to the window."""
        with self._connection() as connection:
            reading = threading.Thread(target=_drain, args=(connection,))
            reading.start()
            for frame in frames():
                if self._over():
                    break
                connection.sendall(frame)
                self._count("flooded frames")
            connection.shutdown(socket.SHUT_RDWR)
            reading.join()

    def never_read(self) -> None:
        """Send as long as the socket takes bytes, and read nothing."""
        with self._connection(receive_buffer=4096) as connection:
            connection.settimeout(0.5)
            for frame in frames():
                if self._over():
                    break
                sent = 0
                while sent < len(frame) and not self._over():
                    with suppress(TimeoutError):
                        sent += connection.send(frame[sent:])
                self._count("unread frames")

    def drip(self) -> None:
        """Send one byte a second."""
        with self._connection() as connection:
            for byte in next(frames()):
                if self._over():
                    break
                connection.sendall(bytes([byte]))
                self._count("bytes dripped")
                time.sleep(1.0)

    def vanish(self) -> None:
        """Open a session, send and disappear, many times, spread over the duration."""
        while self.counts.get("vanished", 0) < self._vanishings:
            with self._connection() as connection:
                connection.sendall(next(frames(64)))
            self._count("vanished")
            share = self.counts["vanished"] / self._vanishings
            due_s = self._began_s + 0.9 * share * self._seconds
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _repeat(self, client: Callable[[], None]) -> None:
        while not self._over():
            try:
                client()
            except OSError:  # refused or closed by the server: try again
                self._count("sent away")
                time.sleep(0.1)
            else:
                if client == self.vanish:  # all its vanishings are done
                    return

    def _over(self) -> bool:
        return time.monotonic() - self._began_s >= self._seconds

    def _count(self, event: str) -> None:
        self.counts[event] = self.counts.get(event, 0) + 1

    @contextmanager
    def _connection(self, receive_buffer: int = 0) -> Iterator[socket.socket]:
        """Connect, shake hands and open a session."""
        address = urlsplit(self._url)
        with socket.socket() as connection:
            if receive_buffer:
                kind = socket.SO_RCVBUF
                connection.setsockopt(socket.SOL_SOCKET, kind, receive_buffer)
            connection.settimeout(60)
            connection.connect((address.hostname, address.port))
            protocol = ClientProtocol(parse_uri(f"ws://{address.netloc}/v1/stream"))
            request = protocol.connect()
            request.headers.update(authorization())
            protocol.send_request(request)
            connection.sendall(b"".join(protocol.data_to_send()))
            while protocol.state is State.CONNECTING:
                protocol.receive_data(connection.recv(1 << 16))
            connection.sendall(framed(Open(self._model)))
            yield connection


def frames(events: int = FRAME_EVENTS) -> Iterator[bytes]:
    """Yield frames of events, without end."""
    data = pack(some_events(events, 0), 0)
    seq = 0
    while True:
        seq += 1
        yield framed(EventsFrame(seq, data, t_base_us=events * seq))


def framed(message: Any) -> bytes:
    """Return a message as a client's websocket frame."""
    data = encode_client(message)
    assert isinstance(data, bytes)
    return Frame(Opcode.BINARY, data).serialize(mask=True)


def _drain(connection: socket.socket) -> None:
    with suppress(OSError):
        while connection.recv(1 << 16):
            pass


def main(url: str, model: str, seconds: str, vanishings: str) -> int:
    """Run the abusive clients and print their counts."""
    nuisances = Nuisances(url, model, float(seconds), int(vanishings))
    nuisances.run()
    sys.stdout.write(json.dumps(nuisances.counts) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
