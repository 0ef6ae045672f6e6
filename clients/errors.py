"""What can go wrong between a client and a server.

ClientError
├── StreamError          the server refused something, and said what
├── ConnectionLost       the socket closed without a last word
├── ServerUnreachable    nobody answers at the address
├── StreamClosed         the caller used a stream that it had closed
├── RequestRefused       a REST request was answered with a problem
└── UnplayableSource     a source's name says nothing that can be played
"""

from __future__ import annotations

from saccade.server.protocol.messages import ErrorMessage


class ClientError(Exception):
    """Something went wrong between this client and its server."""


class StreamError(ClientError):
    """The server refused a message, and said which and why.

    Args:
        code: The stable name of the reason, such as `event_outside_sensor`.
        message: The server's sentence.
        fatal: Whether the session ended with it.
        seq: The frame that was refused.
        index: The event within that frame.
        field: The field that was at fault.
        value: What the field held.

    `further` holds the refusals that had come in behind this one.
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


def stream_error(message: ErrorMessage) -> StreamError:
    """Turn the server's `error` into what a caller catches."""
    return StreamError(
        message.code,
        message.message,
        fatal=message.fatal,
        seq=message.seq,
        index=message.index,
        field=message.field,
        value=message.value,
    )


class ConnectionLost(ClientError):
    """The connection ended before the session did."""

    def __init__(self, close_code: int | None, reason: str) -> None:
        super().__init__(close_code, reason)
        self.close_code = close_code
        self.reason = reason

    def __str__(self) -> str:
        told = f": {self.reason}" if self.reason else ""
        return f"the connection was lost (close code {self.close_code}){told}"


class ServerUnreachable(ClientError):
    """Nothing that speaks the protocol answers at the address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"no Saccade server answers at {self.url}: {self.reason}"


class StreamClosed(ClientError):
    """The stream was closed by its own user, and then used."""

    def __str__(self) -> str:
        return "the stream is closed"


class RequestRefused(ClientError):
    """A REST request was answered with a problem document.

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
    """The name of a source says nothing that can be played."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot play {self.source!r}: {self.reason}"
