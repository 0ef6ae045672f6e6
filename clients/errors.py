"""Errors of the client.

ClientError
├── StreamError          the server refused a message or a session, with a code
├── ConnectionLost       the websocket closed before the session ended
├── ServerUnavailable    the server takes no new session for the moment
├── ServerUnreachable    no Saccade server answers at the address
├── StreamClosed         the caller used a stream after closing it
├── RequestRefused       a REST request was answered with a problem document
├── UnplayableSource     a source's name names nothing that can be played
└── ServerFailed         a server process that this client started has failed
"""

from __future__ import annotations

from saccade.server.protocol.messages import ErrorMessage


class ClientError(Exception):
    """Base class of what can go wrong between a client and its server."""


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

    `further` holds the refusals that arrived after this one.
    """

    def __init__(  # noqa: PLR0913 (the wire's fields, one for one)
        self,
        code: str,
        message: str,
        *,
        fatal: bool,
        seq: int | None = None,
        index: int | None = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.fatal = fatal
        self.seq = seq
        self.index = index
        self.field = field
        self.value = value
        self.further: tuple[StreamError, ...] = ()

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


class ConnectionLost(ClientError):
    """The websocket closed before the session ended.

    Args:
        close_code: The websocket's close code; None where the server sent
            something that is no message.
        reason: The reason that came with it; may be empty.
    """

    def __init__(self, close_code: int | None, reason: str) -> None:
        super().__init__(close_code, reason)
        self.close_code = close_code
        self.reason = reason

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"the connection was lost (close code {self.close_code}){reason}"


class ServerUnavailable(ClientError):
    """The server takes no new session for the moment: it starts, stops or restarts.

    Args:
        url: The server's address.
        reason: The server's reason.
        retry_after_s: The seconds that the server asks a client to wait; 0 if none.
    """

    def __init__(self, url: str, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(url, reason, retry_after_s)
        self.url = url
        self.reason = reason
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"the server at {self.url} takes no new session now: {self.reason}"


class ServerUnreachable(ClientError):
    """No Saccade server answers at the address.

    Args:
        url: The address.
        reason: What happened instead of an answer.
        cut_off: Whether the connection was accepted, and closed without an answer.
    """

    def __init__(self, url: str, reason: str, *, cut_off: bool = False) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason
        self.cut_off = cut_off

    def __str__(self) -> str:
        return f"no Saccade server answers at {self.url}: {self.reason}"


class StreamClosed(ClientError):
    """The caller used a stream after closing it."""

    def __str__(self) -> str:
        return "the stream is closed"


class RequestRefused(ClientError):
    """A REST request, or a websocket's handshake, was answered with a problem.

    Args:
        status: The HTTP status.
        code: The stable name of the reason, where the server gave one.
        detail: The server's sentence.
    """

    def __init__(self, status: int, code: str | None, detail: str) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.detail} ({self.code or f'HTTP status {self.status}'})"


class UnplayableSource(ClientError):
    """A source's name names nothing that can be played."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot play {self.source!r}: {self.reason}"


class ServerFailed(ClientError):
    """A server process ended, or never became ready.

    Args:
        reason: What happened.
        log: The last lines that the server wrote.
    """

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(reason, log)
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        return f"{self.reason}; its last words:\n{self.log}"
