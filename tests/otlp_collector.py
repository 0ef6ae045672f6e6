"""A collector of OTLP over HTTP: takes what a server exports, and keeps it decoded."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


@dataclass(frozen=True)
class ReceivedSpan:
    """A span, with the process that made it."""

    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    failed: bool
    facts: dict[str, Any]
    resource: dict[str, Any]


def plain(attributes: Any) -> dict[str, Any]:
    """Return attributes as plain values."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value"))
        for each in attributes
    }


@dataclass
class Collector:
    """What has come in."""

    url: str
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    """The newest metric of each name and process."""

    def named(self, *names: str) -> list[ReceivedSpan]:
        return [each for each in [*self.spans] if each.name in names]

    def take(self, path: str, body: bytes) -> None:
        message = REQUESTS[path].FromString(body)
        if path == "/v1/traces":
            self.spans += [*_spans(message)]
        for part in getattr(message, "resource_metrics", ()):
            process = plain(part.resource.attributes)["saccade.process"]
            for scope in part.scope_metrics:
                for metric in scope.metrics:
                    self.metrics[f"{process} {metric.name}"] = metric


def _spans(message: Any) -> Iterator[ReceivedSpan]:
    for part in message.resource_spans:
        resource = plain(part.resource.attributes)
        for scope in part.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == 2,
                    plain(span.attributes),
                    resource,
                )


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        collector = Collector(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield collector
        http.shutdown()
        thread.join()
