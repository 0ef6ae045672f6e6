"""What the server says to a tracer, and the tracer that there is without `--otel`.

Without `--otel` every call here returns what it was given: no frame passes through an
object that is not needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol, TypeAlias

from prometheus_client import CollectorRegistry

from saccade.server.background import Background
from saccade.server.engine.engine_link import EngineLink
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import Deliver, Observer
from saccade.server.logs import ClientFacts
from saccade.server.settings import Settings

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
"""A request's headers, as ASGI gives them."""

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

SessionOf: TypeAlias = Callable[[Lease], str | None]
"""Returns the name of the session that has a lease; None for a recording."""


class SessionSpan(Protocol):
    """The span of one session, from its opening to the end of its connection."""

    def begun(self, session: str, *, resumed: bool) -> None:
        """The session has its name."""

    def end(self, code: int, events: int) -> None:
        """The connection has ended.

        Args:
            code: The close code.
            events: Events that the session was sent since it began.
        """


class EngineSpans(Protocol):
    """The spans of the engine's half of a frame's way."""

    def expect(self, port: int, model: str, page: int, parent: str) -> None:
        """A page that is traced comes with the next commands.

        Args:
            port: The front end's.
            model: The model's key.
            page: The page's number.
            parent: The frame's span, as a `traceparent` header.
        """

    def watched(self, port: int, deliver: Deliver) -> Deliver:
        """Return what delivers a front end's outputs, and sees the pages in them."""

    def observed(self, observer: Observer) -> Observer:
        """Return an observer of the device that sees its calls, too."""


class Telemetry(Protocol):
    """What one process exports."""

    def session(self, headers: Headers, model: str, client: ClientFacts) -> SessionSpan:
        """Begin the span of a session that is opened.

        Args:
            headers: The handshake's, which may name a parent.
            model: The model's name.
            client: Receives the trace's id.
        """

    def requests(self, app: App) -> App:
        """Return an application that makes a span of each request."""

    def engine_spans(self) -> EngineSpans:
        """Return the spans of an engine in this process."""

    def link(
        self, link: EngineLink, session_of: SessionOf, spans: EngineSpans
    ) -> EngineLink:
        """Return a way to an engine on which some frames are traced.

        Args:
            link: The way.
            session_of: Names a lease's session.
            spans: Of the engine.
        """

    def repeat(self, background: Background, registry: CollectorRegistry) -> None:
        """Export a registry's metrics again and again."""

    async def close(self) -> None:
        """Export what waits, within a bound."""


class NoSpan:
    """The span of a session that is not traced."""

    def begun(self, session: str, *, resumed: bool) -> None:
        """Do nothing."""

    def end(self, code: int, events: int) -> None:
        """Do nothing."""


class NoEngineSpans:
    """An engine of which nothing is traced."""

    def expect(self, port: int, model: str, page: int, parent: str) -> None:
        """Do nothing."""

    def watched(self, port: int, deliver: Deliver) -> Deliver:
        """Return what was given."""
        return deliver

    def observed(self, observer: Observer) -> Observer:
        """Return what was given."""
        return observer


class NoTelemetry:
    """What a process without `--otel` exports."""

    def session(self, headers: Headers, model: str, client: ClientFacts) -> SessionSpan:
        """Return a span that is not recorded."""
        return NoSpan()

    def requests(self, app: App) -> App:
        """Return what was given."""
        return app

    def engine_spans(self) -> EngineSpans:
        """Return spans that are not recorded."""
        return NoEngineSpans()

    def link(
        self, link: EngineLink, session_of: SessionOf, spans: EngineSpans
    ) -> EngineLink:
        """Return what was given."""
        return link

    def repeat(self, background: Background, registry: CollectorRegistry) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def open_telemetry(settings: Settings, process: str) -> Telemetry:
    """Return what a process exports, as its settings and `OTEL_*` say.

    Args:
        settings: The server's.
        process: The process's name.

    Raises:
        ValueError: OpenTelemetry is not installed, or a variable asks for an exporter
            that is not there.
    """
    if not settings.otel:
        return NoTelemetry()
    try:
        from saccade.server.telemetry.otel import open_otel
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--otel needs {error.name}: pip install 'saccade[otel]' brings it"
        ) from None
    return open_otel(settings.replica, process)
