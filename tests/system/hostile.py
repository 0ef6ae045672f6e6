"""Clients that mean harm, each on a socket of its own, as fast as they can."""

from __future__ import annotations

import random
import socket
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from saccade.server.protocol.codec import Wire, decode_server
from tests.fuzzing import Mutator, captures

PATIENCE_S = 30.0
"""A server that has not hung up by then hangs."""


class Hostile:
    """Plays damaged captures.

    Args:
        url: The server, `http://host:port`.
        seed: The same seed does the same harm.
    """

    def __init__(self, url: str, seed: int) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 0)
        self._uri = parse_uri(f"ws://{address.netloc}/v1/stream")
        self._captures = captures()
        self._mutator = Mutator(seed)
        self._random = random.Random(seed)
        self.seen: Counter[str] = Counter()

    def attack(self, times: int) -> None:
        """Connect so many times, and each time do another kind of harm."""
        kinds = [self._damaged_messages] * 8 + [self._damaged_stream]
        kinds += [self._damaged_handshake]
        for _ in range(times):
            with socket.create_connection(self._address, PATIENCE_S) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with suppress(ConnectionResetError, BrokenPipeError):
                    self._random.choice(kinds)(connection)

    def _damaged_messages(self, connection: socket.socket) -> None:
        """Say a damaged session, then leave politely or vanish."""
        protocol = self._shake_hands(connection)
        script = self._mutator.script(self._random.choice(self._captures).messages)
        for said in script:
            self.seen["damaged"] += said.damaged
            connection.sendall(framed(said.wire))
        if self._random.random() < 0.2:
            return
        protocol.send_close(1000)
        connection.sendall(b"".join(protocol.data_to_send()))
        self._hear_out(connection, protocol)
        assert protocol.close_rcvd is not None, "the server hung up without a word"
        self.seen[f"close {protocol.close_rcvd.code}"] += 1

    def _damaged_stream(self, connection: socket.socket) -> None:
        """Say a session whose websocket frames themselves are damaged."""
        protocol = self._shake_hands(connection)
        messages = self._random.choice(self._captures).messages[:5]
        stream = b"".join(framed(data) for data in messages)
        self.seen["damaged"] += 1
        connection.sendall(self._mutator.octets(stream))
        connection.shutdown(socket.SHUT_WR)
        self._hear_out(connection, protocol)

    def _damaged_handshake(self, connection: socket.socket) -> None:
        """Ask for a websocket with a request that is damaged."""
        protocol = ClientProtocol(self._uri)
        protocol.send_request(protocol.connect())
        self.seen["damaged"] += 1
        connection.sendall(self._mutator.octets(b"".join(protocol.data_to_send())))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(1 << 16):
            answer += data
        self.seen[f"status {answer[9:12].decode()}"] += 1

    def _shake_hands(self, connection: socket.socket) -> ClientProtocol:
        protocol = ClientProtocol(self._uri)
        protocol.send_request(protocol.connect())
        connection.sendall(b"".join(protocol.data_to_send()))
        while protocol.state is State.CONNECTING:
            protocol.receive_data(connection.recv(1 << 16))
        protocol.events_received()
        return protocol

    def _hear_out(self, connection: socket.socket, protocol: ClientProtocol) -> None:
        """Read until the server hangs up; each of its messages must be one."""
        while data := connection.recv(1 << 16):
            protocol.receive_data(data)
            for event in protocol.events_received():
                assert isinstance(event, Frame)
                if event.opcode is Opcode.TEXT:
                    decode_server(bytes(event.data).decode())
                elif event.opcode is Opcode.BINARY:
                    decode_server(bytes(event.data))


def framed(data: Wire) -> bytes:
    """Return a message as a client's websocket frame."""
    if isinstance(data, str):
        frame = Frame(Opcode.TEXT, data.encode("utf-8", "surrogatepass"))
    else:
        frame = Frame(Opcode.BINARY, data)
    return frame.serialize(mask=True)
