"""A client of a few lines, written against the protocol's codec alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.messages import (
    Ack,
    Close,
    Closed,
    ErrorMessage,
    EventsFrame,
    Open,
    Opened,
    Result,
)


class Client:
    """One websocket; remembers everything that it hears, and keeps to its credit.

    With `live` it sends without regard to credit, as a session that drops events may.
    """

    live = False

    def __init__(self, socket: ClientConnection, *, text: bool) -> None:
        self.socket = socket
        self.text = text
        self.seq = 0
        self.sent = 0
        self.opened: Opened | None = None
        self.heard: list[Any] = []

    def say(self, message: Any) -> None:
        self.socket.send(encode_client(message, text=self.text))

    def hear(self) -> Any:
        message = decode_server(self.socket.recv(timeout=300))
        self.heard.append(message)
        return message

    def hear_until(self, kind: type) -> Any:
        while not isinstance(message := self.hear(), kind):
            pass
        return message

    def open(self, model: str = "toy", **fields: Any) -> Opened:
        self.say(Open(model, **fields))
        message = self.hear()
        assert isinstance(message, Opened), message
        self.opened = message
        self.live = fields.get("when_full") == "drop-oldest"
        return message

    def send(self, events: Events) -> None:
        while not self.live and self.opened and self.under_way(events) > self.window:
            self.hear()
        self.send_at_once(events)

    def send_at_once(self, events: Events) -> None:
        """Send a frame, whether there is credit for it or not."""
        self.seq += 1
        self.sent += len(events)
        base = int(events["t"][0]) if len(events) else 0
        self.say(EventsFrame(self.seq, pack(events, base), t_base_us=base))

    @property
    def token(self) -> str:
        """The session's token: of `opened`, or a later ack where the store is slow."""
        assert self.opened is not None
        token = self.opened.resume
        while token is None:
            token = self.acked.resume if self.of(Ack) else None
            if token is None:
                self.hear()
        return token

    @property
    def window(self) -> int:
        assert self.opened is not None
        return min(self.opened.window_events, self.opened.window_bytes // 8)

    def under_way(self, more: Events) -> int:
        """Events that would be under way with some more, as far as is heard."""
        acks: list[Ack] = self.of(Ack)
        return self.sent + len(more) - (acks[-1].events if acks else 0)

    def finish(self) -> Closed:
        self.say(Close())
        closed: Closed = self.hear_until(Closed)
        assert self.close_code() == 1000
        return closed

    def close_code(self) -> int:
        """Hear everything to the end; return the code that the server closed with."""
        with suppress(ConnectionClosed):
            while True:
                self.hear()
        code = self.socket.close_code
        assert code is not None, "the server vanished"
        return code

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def scores(self) -> list[float]:
        return [result.logits[0] for result in self.of(Result)]

    @property
    def error(self) -> ErrorMessage:
        errors: list[ErrorMessage] = self.of(ErrorMessage)
        return errors[-1]

    @property
    def acked(self) -> Ack:
        acks: list[Ack] = self.of(Ack)
        return acks[-1]


@contextmanager
def client_of(base: str, *, text: bool = False, **options: Any) -> Iterator[Client]:
    """Connect to a server by its http address."""
    address = base.replace("http", "ws") + "/v1/stream"
    with connect(address, compression=None, max_size=None, **options) as socket:
        yield Client(socket, text=text)
