"""Errors of the client.

ClientError (a SaccadeError, as the errors about events are)
├── InvalidChoice        an argument is not one that the call takes
├── StreamError          the server refused a message or a session, with a code
├── ConnectionLost       the websocket closed before the session ended
├── ServerUnavailable    the server takes no new session for the moment
├── ServerUnreachable    no Saccade server answers at the address
├── StreamClosed         the caller used a stream after closing it
├── WrongEncoding        events were sent on a stream of raw words, or the reverse
├── RequestRefused       a REST request was answered with a problem document
├── UnplayableSource     a source's name names nothing that can be played
├── LoadFailed           a load generator cannot send what it was asked to send
└── ServerFailed         a server process that this client started has failed
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from saccade.model.events.errors import SaccadeError
from saccade.server.protocol.messages import ErrorMessage


class ClientError(SaccadeError):
    """Base class of what can go wrong between a client and its server."""


@dataclass(eq=False)
class InvalidChoice(ClientError, ValueError):
    """An argument is not one that the call takes; nothing was sent.

    Args:
        name: The argument's name.
        reason: What is wrong with it, and what to give.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(eq=False)
class StreamError(ClientError):
    """The server refused a message or a session.

    Args:
        code: The stable name of the reason, such as `event_outside_sensor`.
        message: The server's sentence.
        fatal: Whether the session ended with it.
        seq: The frame that was refused.
        index: The event within that frame.
        field: The field that was at fault.
        value: What the field held.
        further: The refusals that arrived after this one.
    """

    code: str
    message: str
    _: KW_ONLY
    fatal: bool
    seq: int | None = None
    index: int | None = None
    field: str | None = None
    value: object = None
    further: tuple[StreamError, ...] = ()

    def __str__(self) -> str:
        more = f", and {len(self.further)} more" if self.further else ""
        return f"{self.message} ({self.code}){more}"


def stream_error(error: ErrorMessage) -> StreamError:
    """Return the server's `error` message as an exception."""
    return StreamError(
        error.code,
        error.message,
        fatal=error.fatal,
        seq=error.seq,
        index=error.index,
        field=error.field,
        value=error.value,
    )


@dataclass(eq=False)
class ConnectionLost(ClientError):
    """The websocket closed before the session ended.

    Args:
        close_code: The websocket's close code; None where the server sent
            something that is no message.
        reason: The reason that came with it; may be empty.
    """

    close_code: int | None
    reason: str

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"the connection was lost (close code {self.close_code}){reason}"


@dataclass(eq=False)
class ServerUnavailable(ClientError):
    """The server takes no new session for the moment: it starts, stops or restarts.

    Args:
        url: The server's address.
        reason: The server's reason.
        retry_after_s: The seconds that the server asks a client to wait; 0 if none.
    """

    url: str
    reason: str
    retry_after_s: float = 0.0

    def __str__(self) -> str:
        return f"the server at {self.url} takes no new session now: {self.reason}"


@dataclass(eq=False)
class ServerUnreachable(ClientError):
    """No Saccade server answers at the address.

    Args:
        url: The address.
        reason: What happened instead of an answer.
        cut_off: Whether the connection was accepted, and closed without an answer.
    """

    url: str
    reason: str
    _: KW_ONLY
    cut_off: bool = False

    def __str__(self) -> str:
        return f"no Saccade server answers at {self.url}: {self.reason}"


class StreamClosed(ClientError):
    """The caller used a stream after closing it."""

    def __str__(self) -> str:
        return "the stream is closed"


@dataclass(eq=False)
class WrongEncoding(ClientError):
    """Events were sent on a stream that was opened for raw words, or the reverse."""

    encoding: str

    def __str__(self) -> str:
        if self.encoding == "packed":
            return (
                "`send_raw` forwards a camera's own words, and this stream was opened "
                "for events: use `send`, or open with encoding='evt3' (or evt2, evt21)"
            )
        return (
            f"`send` takes events, and this stream was opened for {self.encoding} "
            "words: use `send_raw`, or open without `encoding`"
        )


@dataclass(eq=False)
class RequestRefused(ClientError):
    """A REST request, or a websocket's handshake, was answered with a problem.

    Args:
        status: The HTTP status.
        code: The stable name of the reason, where the server gave one.
        detail: The server's sentence.
    """

    status: int
    code: str | None
    detail: str

    def __str__(self) -> str:
        return f"{self.detail} ({self.code or f'HTTP status {self.status}'})"


@dataclass(eq=False)
class UnplayableSource(ClientError):
    """A source's name names nothing that can be played."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"cannot play {self.source!r}: {self.reason}"


@dataclass(eq=False)
class LoadFailed(ClientError):
    """A load generator cannot send what it was asked to send."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class ServerFailed(ClientError):
    """A server process ended, or never became ready; `log` holds its last lines."""

    reason: str
    log: str

    def __str__(self) -> str:
        return f"{self.reason}; its last words:\n{self.log}"
