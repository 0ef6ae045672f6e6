"""What a server exports with `--otel`, as a collector receives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from saccade.server.logs import ClientFacts
from saccade.server.protocol.messages import EventsFrame
from saccade.server.settings import Settings
from saccade.server.telemetry.metrics_export import NotExported
from saccade.server.telemetry.spans import NoTelemetry, open_telemetry
from saccade.server.transport.auth import digest_of, new_key
from tests.otlp_collector import Collector, ReceivedSpan, collecting
from tests.toy import some_events, wait_until
from tests.transport.conftest import Server, serving

KEY = new_key()
BEARER = {"Authorization": f"Bearer {KEY}"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = BEARER | {"traceparent": f"00-{TRACE}-{PARENT}-01"}
UNSAMPLED = BEARER | {"traceparent": f"00-{'1' * 32}-{PARENT}-00"}
WITHOUT = """
import sys
import saccade.server.app
from saccade.server.settings import Settings
from saccade.server.telemetry.spans import open_telemetry
open_telemetry(Settings(), "server")
parts = "opentelemetry.sdk", "opentelemetry.exporter", "saccade.server.telemetry."
found = {name for name in sys.modules if name.startswith(parts)}
sys.exit(", ".join(found - {"saccade.server.telemetry.spans"}) or 0)
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        environment.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")
        environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        yield running


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[Server]:
    keys = (f"robot:{digest_of(KEY)}",)
    with serving(keys=keys, otel=True) as running:
        yield running


def one(collector: Collector, name: str, **facts: Any) -> ReceivedSpan:
    """Wait for a span of a name and some facts."""
    wanted = {key.replace("_", "."): value for key, value in facts.items()}

    def found() -> list[ReceivedSpan]:
        spans = collector.named(name)
        return [each for each in spans if wanted.items() <= each.facts.items()]

    wait_until(lambda: bool(found()))
    return found()[0]


def test_a_frame_s_way_to_the_engine_and_back_is_in_its_client_s_trace(
    server: Server, collector: Collector
) -> None:
    with server.client(additional_headers=TRACED) as client:
        name = client.open().session
        client.send(some_events(8))
        client.finish()
    session = one(collector, "session", saccade_session=name)
    assert (session.trace, session.parent) == (TRACE, PARENT)
    assert session.facts["saccade.key"] == "robot"
    assert session.facts["saccade.events"] == 8
    assert session.facts["saccade.close_code"] == 1000
    assert not session.failed
    frame, engine, device = (one(collector, n) for n in ("frame", "engine", "device"))
    assert [each.trace for each in (frame, engine, device)] == [TRACE] * 3
    assert frame.parent == session.id
    assert engine.parent == frame.id
    assert device.parent == engine.id
    assert frame.start_ns <= engine.start_ns <= device.end_ns <= engine.end_ns
    assert session.start_ns <= frame.start_ns <= frame.end_ns <= session.end_ns
    assert session.resource["service.name"] == "saccade"
    assert session.resource["saccade.process"] == "server"
    assert session.resource["deployment.environment"] == "test"


def test_a_session_that_is_refused_is_a_span_that_failed(
    server: Server, collector: Collector
) -> None:
    with server.client(additional_headers=BEARER) as client:
        name = client.open().session
        client.say(EventsFrame(7, b"", t_base_us=0))
        code = client.close_code()
    session = one(collector, "session", saccade_session=name)
    assert session.failed
    assert session.facts["saccade.close_code"] == code != 1000
    assert session.parent == ""


def test_a_client_s_decision_not_to_sample_holds(
    server: Server, collector: Collector
) -> None:
    with server.client(additional_headers=UNSAMPLED) as client:
        name = client.open().session
        client.finish()
    with server.client(additional_headers=BEARER) as client:
        later = client.open().session
        client.finish()
    one(collector, "session", saccade_session=later)
    names = [each.facts.get("saccade.session") for each in collector.spans]
    assert name not in names


def test_a_request_is_a_span_of_its_route_and_strangers_make_none(
    server: Server, collector: Collector
) -> None:
    with httpx.Client(base_url=server.base) as http:
        assert http.get("/v1/sessions/a").status_code == 401
        assert http.get("/healthz").status_code == 200
        assert http.get("/metrics", headers=BEARER).status_code == 200
        assert http.get("/v1/sessions/b", headers=TRACED).status_code == 404
        assert http.get("/v1/models", headers=BEARER).status_code == 200
    models = one(collector, "GET /v1/models")
    assert models.facts["http.response.status_code"] == 200
    session = one(collector, "GET /v1/sessions/{session}")
    assert session.facts["url.path"] == "/v1/sessions/b"
    assert session.facts["http.response.status_code"] == 404
    assert (session.trace, session.parent) == (TRACE, PARENT)
    assert not session.failed, "a client's mistake is no fault of the server's"
    paths = {each.facts.get("url.path") for each in collector.spans}
    assert paths.isdisjoint({"/v1/sessions/a", "/healthz", "/metrics"})


def test_the_metrics_are_those_that_prometheus_scrapes(
    server: Server, collector: Collector
) -> None:
    metrics = server.service.metrics.model("toy")
    with server.client(additional_headers=BEARER) as client:
        client.open()
        client.send(some_events(6))
        client.finish()
    received = metrics.events_received.value

    def exported() -> float:
        found = collector.metrics.get("server saccade_events_received")
        return 0.0 if found is None else found.sum.data_points[0].as_double

    def batches() -> int:
        found = collector.metrics.get("server saccade_batch_seconds")
        return 0 if found is None else found.histogram.data_points[0].count

    wait_until(lambda: exported() == received and batches() > 0)
    total = collector.metrics["server saccade_events_received"].sum
    assert total.is_monotonic
    assert total.aggregation_temporality == 2, "cumulative"
    (point,) = collector.metrics["server saccade_batch_seconds"].histogram.data_points
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert sum(point.bucket_counts) == point.count > 0
    assert "server saccade_sessions_open" in collector.metrics


def test_without_otel_nothing_of_it_is_imported_and_nothing_wraps_the_engine(
    serve: Any,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    service = serve().service
    assert service.streams.frontend.link is service.engine
    assert isinstance(service.telemetry, NoTelemetry)


def test_a_process_s_variables_may_turn_each_part_off(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(otel=True)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert isinstance(open_telemetry(settings, "server"), NoTelemetry)
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    telemetry = open_telemetry(settings, "server")
    client = ClientFacts()
    telemetry.session([], "toy", client).end(1000, 0)
    assert len(client.trace_id) == 32, "the log's lines of one session still share it"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "often"),
    ],
)
def test_a_variable_that_asks_for_what_is_not_there_is_named(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        open_telemetry(Settings(otel=True), "server")


async def test_a_collector_that_is_away_fails_the_export_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from opentelemetry.sdk.resources import Resource

    from saccade.server.telemetry.metrics_export import MetricsExport

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with pytest.raises(NotExported):
        await MetricsExport(Resource({})).look()
