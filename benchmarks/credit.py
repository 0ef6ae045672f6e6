"""Benchmark of credit: what a client that ignores it costs a server, in memory.

    python -m benchmarks.credit [--seconds S] [--workers N ...] [--json PATH]

A real server and one client that sends as fast as the socket takes it, whatever the
server acknowledges. Where the server ends the session, the client begins another. What
is compared is the memory of all the server's processes, shared pages counted once, at
its highest while the client sends and just before.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.table import Table
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from benchmarks.comparison import end_comparison
from benchmarks.processes import proportional_mib
from saccade.checkpoints import released
from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess
from saccade.model.events.encodings.packed import pack
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import simulate
from saccade.server.protocol.codec import encode_client
from saccade.server.protocol.messages import EventsFrame, Flush, Open

MODEL: Final = "motions"
FRAME_EVENTS: Final = 1 << 15
FRAME_BYTES: Final = 1 << 20
RAW_SENSOR: Final = Sensor(128, 128)
SAMPLE_S: Final = 0.02
SETTLE_S: Final = 1.0
PATIENCE_S: Final = 0.5
"""How long a socket may take nothing before its client begins another session."""
BOUND_MIB: Final = 64.0

Kind: TypeAlias = Literal["packed", "deaf", "live", "flushes", "evt3", "evt21"]
WHAT: Final[dict[Kind, str]] = {
    "packed": "frames without end, answers read",
    "deaf": "frames without end, nothing read",
    "live": "frames of a source that drops the oldest",
    "flushes": "a request for the scores after each frame, nothing read",
    "evt3": "a sensor's words of up to twelve events each",
    "evt21": "a sensor's words of up to 32 events each",
}


@dataclass(frozen=True)
class Flood:
    """What a client that ignores its credit did, and what that took.

    Attributes:
        kind: What it sent.
        workers: The server's worker processes.
        sessions: Sessions that it began.
        sent_mib: What the sockets took, MiB.
        before_mib: The server's memory before, MiB.
        grown_mib: By how much it grew at most, MiB.
    """

    kind: Kind
    workers: int
    sessions: int
    sent_mib: float
    before_mib: float
    grown_mib: float


def messages(kind: Kind) -> Iterator[bytes]:
    """Yield the messages of one session, without end, as websocket frames."""
    opening = Open(MODEL, when_full="drop-oldest" if kind == "live" else "block")
    data, span_us = _packed(), FRAME_EVENTS
    if kind == "evt3" or kind == "evt21":
        opening = Open(MODEL, sensor=RAW_SENSOR, fit="scale", encoding=kind)
        data, span_us = (_evt3() if kind == "evt3" else _evt21()), 0
    yield _framed(encode_client(opening))
    seq = 0
    while True:
        seq += 1
        frame = EventsFrame(seq, data, t_base_us=seq * span_us)
        yield _framed(encode_client(frame))
        if kind == "flushes":
            yield _framed(encode_client(Flush(seq)))


def _packed() -> bytes:
    """Return a frame of a scene that lasts `FRAME_EVENTS` µs."""
    scene = simulate("left", seed=0, duration_us=500_000)
    events = np.tile(scene, -(-FRAME_EVENTS // len(scene)))[:FRAME_EVENTS]
    events["t"] = np.arange(FRAME_EVENTS)
    return pack(events, 0)


def _evt3() -> bytes:
    """Return a frame of EVT3: a time, a row, and again and again its columns."""
    row = np.full(FRAME_BYTES // 4, 0x4FFF, "<u2")
    row[::8] = 0x3000  # back to the first column
    row[:3] = 0x8001, 0x6001, 0x0001
    return row.tobytes()


def _evt21() -> bytes:
    """Return a frame of EVT2.1: a time, and again and again 32 columns of a row."""
    words = np.full(FRAME_BYTES // 16, 0x1000_0000_FFFF_FFFF, "<u8")
    words[0] = 0x8000_0001_0000_0000
    return words.tobytes()


def _framed(data: bytes | str) -> bytes:
    assert isinstance(data, bytes)
    return Frame(Opcode.BINARY, data).serialize(mask=True)


class Flooding:
    """A client that sends without regard to credit, on a thread of its own.

    Args:
        url: The server.
        kind: What it sends.
    """

    def __init__(self, url: str, kind: Kind) -> None:
        address = urlsplit(url)
        self._place = (address.hostname or "", address.port or 0)
        self._uri = parse_uri(f"ws://{address.netloc}/v1/stream")
        self._kind = kind
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sessions = self.sent = 0

    def __enter__(self) -> Flooding:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with suppress(OSError), self._connected() as connection:
                self.sessions += 1
                self._flood(connection)

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        """Connect and upgrade to a websocket."""
        protocol = ClientProtocol(self._uri)
        protocol.send_request(protocol.connect())
        with socket.create_connection(self._place, 30.0) as connection:
            connection.sendall(b"".join(protocol.data_to_send()))
            while protocol.state is State.CONNECTING:
                protocol.receive_data(connection.recv(1 << 16))
            yield connection

    def _flood(self, connection: socket.socket) -> None:
        """Send until the server has hung up, or takes nothing more."""
        connection.settimeout(0)
        asked = selectors.EVENT_WRITE
        if self._kind not in {"deaf", "flushes"}:
            asked |= selectors.EVENT_READ
        with selectors.DefaultSelector() as selector:
            selector.register(connection, asked)
            for message in messages(self._kind):
                if not self._send(connection, memoryview(message), selector):
                    return

    def _send(
        self,
        connection: socket.socket,
        left: memoryview,
        selector: selectors.BaseSelector,
    ) -> bool:
        """Send one message; return whether the session goes on."""
        stuck_s = time.monotonic() + PATIENCE_S
        while left:
            if self._over.is_set() or time.monotonic() > stuck_s:
                return False
            for _, ready in selector.select(PATIENCE_S):
                if ready & selectors.EVENT_READ and not connection.recv(1 << 16):
                    return False
                if ready & selectors.EVENT_WRITE:
                    sent = connection.send(left)
                    left, self.sent = left[sent:], self.sent + sent
                    stuck_s = time.monotonic() + PATIENCE_S
        return True


def flooded(server: ServerProcess, workers: int, kind: Kind, seconds: float) -> Flood:
    """Flood a server for some time; return how much its memory grew at most."""
    time.sleep(SETTLE_S)
    before = highest = proportional_mib(server.pid)
    with Flooding(server.url, kind) as flooding:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            time.sleep(SAMPLE_S)
            highest = max(highest, proportional_mib(server.pid))
    sent_mib = flooding.sent / (1 << 20)
    grown = highest - before
    return Flood(kind, workers, flooding.sessions, sent_mib, before, grown)


@contextmanager
def serving(workers: int) -> Iterator[ServerProcess]:
    """Run a server that has served one ordinary session."""
    folder = next(path for path in released() if path.name == MODEL)
    options = ["--model", str(folder), "--workers", f"{workers}"]
    with ServerProcess(options) as server:
        server.wait_until_ready(lambda _: None)
        end_comparison(server.pid)
        yield server


def run(workers: Sequence[int], kinds: Sequence[Kind], seconds: float) -> list[Flood]:
    """Flood a server of each number of workers with each kind in turn."""
    found = []
    for count in workers:
        with serving(count) as server:
            found += [flooded(server, count, kind, seconds) for kind in kinds]
    return found


def table(floods: Sequence[Flood]) -> Table:
    """Write the floods as a table."""
    result = Table(title=f"clients that ignore their credit; bound {BOUND_MIB:g} MiB")
    for name in ("workers", "client", "sessions", "sent, MiB", "before", "grown, MiB"):
        result.add_column(name, justify="left" if name == "client" else "right")
    for one in floods:
        result.add_row(
            f"{one.workers}",
            f"{one.kind}: {WHAT[one.kind]}",
            f"{one.sessions}",
            f"{one.sent_mib:,.0f}",
            f"{one.before_mib:,.0f}",
            f"{one.grown_mib:,.1f}",
        )
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 where memory grew past the bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.credit")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], metavar="N")
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=[*WHAT])
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the floods")
    options = parser.parse_args(argv)
    floods = run(options.workers, options.kinds, options.seconds)
    Console(width=None if sys.stdout.isatty() else 110).print(table(floods))
    if options.json:
        content = {"machine": machine(), "floods": [asdict(one) for one in floods]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(any(one.grown_mib > BOUND_MIB for one in floods))


if __name__ == "__main__":
    sys.exit(main())
