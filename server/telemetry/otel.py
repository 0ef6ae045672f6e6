"""Traces over OTLP/HTTP: the spans of sessions and requests, and who exports them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    set_span_in_context,
)
from prometheus_client import CollectorRegistry

from saccade import __version__
from saccade.server.background import Background
from saccade.server.engine.engine_link import EngineLink
from saccade.server.logs import JOURNAL, ClientFacts, about, current_client
from saccade.server.telemetry.frames import TracedEngine, TracedLink
from saccade.server.telemetry.metrics_export import EXPORTING, MetricsExport, period_s
from saccade.server.telemetry.spans import (
    App,
    EngineSpans,
    Headers,
    Message,
    NoTelemetry,
    SessionOf,
    SessionSpan,
    Telemetry,
)

CLOSE_S: Final = 2.0
"""How long the last export may take while a process ends."""
NORMAL: Final = frozenset({1000, 1001, 1012})
"""Close codes that are no error: closed, gone away, moved."""
QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that monitors ask for all the time; those of KServe's health as well."""
QUIET_PREFIX: Final = "/v2/health/"
PROTOCOL: Final = "http/protobuf"


def open_otel(replica: str, process: str) -> Telemetry:
    """Return what a process exports, as the variables `OTEL_*` say.

    Args:
        replica: The server's name.
        process: The process's.

    Raises:
        ValueError: A variable asks for an exporter that is not there.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NoTelemetry()
    wanted = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", PROTOCOL)
    if wanted != PROTOCOL:
        raise ValueError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {wanted!r}; Saccade exports {PROTOCOL}"
        )
    # An export that is tried again is worth no line; one that failed is.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
    resource = resource_of(replica, process)
    traces = None
    if exports("OTEL_TRACES_EXPORTER"):
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    metrics = None
    if exports("OTEL_METRICS_EXPORTER"):
        metrics = MetricsExport(resource, period_s())
    what = ", ".join(
        name
        for name, each in (("traces", traces), ("metrics", metrics))
        if each is not None
    )
    facts = about("exporting", what=what or "nothing")
    JOURNAL.info("exports %s over OTLP", what or "nothing", extra=facts)
    return Otel(traces or TracerProvider(resource=resource), metrics)


def exports(variable: str) -> bool:
    """Return whether a variable leaves a signal to be exported.

    Raises:
        ValueError: It names another exporter than `otlp` and `none`.
    """
    chosen = os.environ.get(variable, "") or "otlp"
    if chosen not in {"otlp", "none"}:
        raise ValueError(f"{variable} is {chosen!r}; it may be otlp or none")
    return chosen == "otlp"


def resource_of(replica: str, process: str) -> Resource:
    """Return what describes a process; what the environment says goes before."""
    own = {
        "service.name": "saccade",
        "service.version": __version__,
        "service.instance.id": f"{replica}/{process}".replace(" ", "-"),
        "saccade.process": process,
    }
    said = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = {part.partition("=")[0].strip() for part in said.split(",")}
    if os.environ.get("OTEL_SERVICE_NAME"):
        named.add("service.name")
    return Resource.create({k: v for k, v in own.items() if k not in named})


class Otel:
    """What one process exports with `--otel`; see `Telemetry`.

    Args:
        traces: Makes and exports spans.
        metrics: Exports metrics; None exports none.
    """

    def __init__(self, traces: TracerProvider, metrics: MetricsExport | None) -> None:
        self._traces = traces
        self._metrics = metrics
        self._tracer = traces.get_tracer("saccade", __version__)
        self._sessions: dict[str, Context] = {}

    def session(self, headers: Headers, model: str, client: ClientFacts) -> SessionSpan:
        """Begin a session's span; see `Telemetry`."""
        facts = {"saccade.model": model, "saccade.key": client.key}
        context = extract(dict(_decoded(headers)))
        span = self._tracer.start_span(
            "session", context, kind=SpanKind.SERVER, attributes=facts
        )
        _note_trace(client, span)
        return TracedSession(span, self._sessions)

    def requests(self, app: App) -> App:
        """Return an application that makes a span of each request; see `Telemetry`."""

        async def traced(
            scope: Message,
            receive: Callable[[], Awaitable[Message]],
            send: Callable[[Message], Awaitable[None]],
        ) -> None:
            path = scope.get("path", "")
            quiet = path in QUIET or path.startswith(QUIET_PREFIX)
            if scope["type"] != "http" or quiet:
                await app(scope, receive, send)
                return
            context = extract(dict(_decoded(scope["headers"])))
            facts = {"http.request.method": scope["method"], "url.path": path}
            with self._tracer.start_as_current_span(
                scope["method"], context, kind=SpanKind.SERVER, attributes=facts
            ) as span:
                _note_trace(current_client(), span)
                await app(scope, receive, _noting_status(span, send))
                _name_route(span, scope)

        return traced

    def engine_spans(self) -> EngineSpans:
        """Return the spans of an engine in this process."""
        return TracedEngine(self._tracer)

    def link(
        self, link: EngineLink, session_of: SessionOf, spans: EngineSpans
    ) -> EngineLink:
        """Return a way to an engine on which some frames are traced."""
        return TracedLink(link, self._tracer, session_of, self._sessions.get, spans)

    def repeat(self, background: Background, registry: CollectorRegistry) -> None:
        """Export a registry's metrics again and again."""
        if self._metrics is not None:
            self._metrics.registries.append(registry)
            background.repeat(EXPORTING, self._metrics.every_s, self._metrics.look)

    async def close(self) -> None:
        """Export what waits, as far as the collector answers in time."""
        # Of its own, not the loop's: the process does not wait for it at its end.
        thread = Thread(target=self._close, name="telemetry", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, CLOSE_S)

    def _close(self) -> None:
        self._traces.shutdown()
        if self._metrics is not None:
            self._metrics.close()


class TracedSession:
    """The span of one session.

    Args:
        span: The span, begun.
        sessions: By name, the context of each session's span that is recorded.
    """

    def __init__(self, span: Span, sessions: dict[str, Context]) -> None:
        self._span = span
        self._sessions = sessions
        self._name = ""
        self._ended = False

    def begun(self, session: str, *, resumed: bool) -> None:
        """Name the session; its frames may be traced from now on."""
        self._name = session
        facts: dict[str, str | bool]
        facts = {"saccade.session": session, "saccade.resumed": resumed}
        self._span.set_attributes(facts)
        if self._span.is_recording():
            self._sessions[session] = set_span_in_context(self._span)

    def end(self, code: int, events: int) -> None:
        """End the span."""
        if self._ended:
            return
        self._ended = True
        self._sessions.pop(self._name, None)
        facts = {"saccade.close_code": code, "saccade.events": events}
        self._span.set_attributes(facts)
        if code not in NORMAL:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _note_trace(client: ClientFacts, span: Span) -> None:
    client.trace_id = format_trace_id(span.get_span_context().trace_id)


def _decoded(headers: Headers) -> list[tuple[str, str]]:
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers]


def _noting_status(
    span: Span, send: Callable[[Message], Awaitable[None]]
) -> Callable[[Message], Awaitable[None]]:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
        await send(message)

    return noting


def _name_route(span: Span, scope: Message) -> None:
    """Name a span by the route's template, of which there are few."""
    template = getattr(scope.get("route"), "path", None)
    if template is not None:
        span.update_name(f"{scope['method']} {template}")
        span.set_attribute("http.route", template)
