"""What a scrape shows: what the page says, in both formats, and what was counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import trustme
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed

from saccade.server.protocol.errors import ProtocolError
from saccade.server.transport.auth import digest_of, new_key
from saccade.server.transport.collectors import Observations
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.model_metrics import ModelMetrics, declared_by
from tests.toy import some_events, toy_model, wait_until
from tests.transport.conftest import Server, serving

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
KEYS = {"ann": new_key(), "eve": new_key()}
LINES = (
    f"ann:{digest_of(KEYS['ann'])}:operator",
    f"eve:{digest_of(KEYS['eve'])}",
)
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
HOSTILE = ("nobody", 'a"} 1\nevil{b="', "x" * 200, "../../etc/passwd", "Ω\u202e")


class Row(NamedTuple):
    """A metric as the page and the exposition say it."""

    kind: str
    labels: frozenset[str]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys and a certificate, which has served a bit of everything."""
    folder = tmp_path_factory.mktemp("papers")
    cert, key = folder / "cert", folder / "key"
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    with serving(tls_cert=cert, tls_key=key, keys=LINES, snapshot_s=0.05) as server:
        get(server, "/v1/models")
        yield server


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    key = bearer("ann") if "Authorization" not in headers else {}
    return httpx.get(f"{server.base}{path}", headers=key | headers, verify=False)


def full_name(name: str, kind: str) -> str:
    """Return the name by which a query finds a family."""
    return name + {"counter": "_total", "info": "_info"}.get(kind, "")


def documented() -> dict[str, Row]:
    found = re.findall(
        r"^\| `([a-z_]+)` \| (counter|gauge|histogram|info) \| (.*?) \|",
        PAGE.read_text(),
        re.MULTILINE,
    )
    return {
        name: Row(kind, frozenset(re.findall(r"`([a-z_]+)`", labels)))
        for name, kind, labels in found
    }


def exposed(registry: CollectorRegistry) -> dict[str, Row]:
    declared = {
        f"saccade_{one.name}": one.about.labels
        for owner in (Metrics, ModelMetrics)
        for one in declared_by(owner)
    }
    rows = {}
    for family in registry.collect():
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        labels |= {*declared.get(family.name, ())}
        kind = "info" if family.name.endswith("_info") else family.type
        name = family.name.removesuffix("_info")
        if family.name == "saccade_device_memory_bytes":
            labels = {"device", "state"}  # this machine may have no accelerator
        rows[full_name(name, kind)] = Row(kind, frozenset(labels))
    return rows


def test_the_page_lists_exactly_the_metrics_that_there_are(watched):
    assert exposed(watched.service.metrics.registry) == documented()


def test_every_name_has_its_unit_and_what_it_is_by_the_conventions():
    for name, row in documented().items():
        assert name.startswith(("saccade_", "process_", "python_"))
        assert name.endswith("_total") == (row.kind == "counter"), name
        assert not re.search(r"_(ms|us|milliseconds|kb|mb|percent)(_|$)", name)
        if row.kind == "histogram" and name != "saccade_bucket_occupancy":
            assert name.endswith(("_seconds", "_bytes")), name


def counted(server: Server, name: str, **labels: str) -> float:
    value = server.service.metrics.registry.get_sample_value(name, labels)
    return 0.0 if value is None else value


def test_a_client_that_asks_for_openmetrics_gets_it_and_others_get_text(server):
    text = httpx.get(f"{server.base}/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    answer = httpx.get(f"{server.base}/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    assert families["saccade_build"].type == "info"
    assert families["saccade_events_received"].type == "counter"


def exemplars(answer: httpx.Response) -> set[str]:
    return {
        sample.exemplar.labels["session"]
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.exemplar
    }


def test_the_first_observation_after_a_scrape_is_its_bucket_s_exemplar():
    observations = Observations([1.0])
    for before, after in (("a", "b"), ("c", "d")):
        observations.observe(0.5, before)
        observations.observe(0.5, after)
        (_, _, exemplar), _ = observations.buckets()
        assert exemplar is not None
        assert exemplar.labels == {"session": before}


def test_exemplars_name_sessions_to_an_operator_and_to_nobody_else(serve):
    server = serve(keys=LINES)
    with server.client(additional_headers=bearer("eve")) as client:
        session = client.open("toy").session
        client.send(some_events(20))
        client.finish()
    seen = {
        name: httpx.get(f"{server.base}/metrics", headers=OPENMETRICS | bearer(name))
        for name in KEYS
    }
    assert exemplars(seen["ann"]) == {session}
    assert exemplars(seen["eve"]) == set()
    assert (
        b"session="
        not in httpx.get(f"{server.base}/metrics", headers=bearer("ann")).content
    )


def test_requests_are_measured_by_the_route_s_template_and_the_status(server):
    name = "saccade_http_request_duration_seconds_count"
    one = {"method": "GET", "route": "/v1/sessions/{session}", "status": "404"}
    before = counted(server, name, **one)
    for session in ("a", "b", "c"):
        httpx.get(f"{server.base}/v1/sessions/{session}")
    wait_until(lambda: counted(server, name, **one) == before + 3)
    body = {"model": "toy", "recordings": "no list"}
    status = httpx.post(f"{server.base}/v1/classify", json=body).status_code
    post = {"method": "POST", "route": "/v1/classify", "status": str(status)}
    wait_until(lambda: counted(server, name, **post) >= 1)


def test_a_request_without_a_key_is_measured_by_its_route_too(watched):
    name = "saccade_http_request_duration_seconds_count"
    labels = {"method": "GET", "route": "/v1/models", "status": "401"}
    before = counted(watched, name, **labels)
    get(watched, "/v1/models", Authorization="Bearer no")
    wait_until(lambda: counted(watched, name, **labels) == before + 1)


def provoke(server: Server, turn: int) -> None:
    """Send whatever a client may choose, different in every turn."""
    refused = (ConnectionClosed, ProtocolError, AssertionError)
    before, requests = measured(server), 0
    with httpx.Client(base_url=server.base) as http:
        for text in HOSTILE:
            name = f"{text}{turn}"
            with suppress(*refused), server.client() as client:
                client.open(name)
            http.post("/v1/classify", json={"model": name, "recordings": []})
            requests += 1
        for path in (f"/{turn}", f"/v1/sessions/{turn}", f"/v2/models/{turn}/infer"):
            http.request(f"BREW{turn}", path)  # is refused before it comes so far
            http.request("PROPFIND", path)
            http.get(path, headers={"Authorization": f"Bearer {turn}"})
            requests += 2
    wait_until(lambda: measured(server) == before + requests)


def measured(server: Server) -> float:
    """Return how many requests were measured: each once its answer has been sent."""
    return sum(
        one.value
        for family in server.service.metrics.requests.collect()
        for one in family.samples
        if one.name.endswith("_count")
    )


def series(server: Server) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    families = server.service.metrics.registry.collect()
    return {
        (one.name, tuple(sorted(one.labels.items())))
        for family in families
        for one in family.samples
    }


def test_nothing_that_clients_send_becomes_a_label(server):
    provoke(server, 1)
    before = series(server)
    assert not {
        value
        for _, labels in before
        for _, value in labels
        if any(text in value for text in (*HOSTILE, "BREW", "PROPFIND"))
    }
    provoke(server, 2)
    assert series(server) - before == set()


def test_each_snapshot_s_time_and_size_are_observed(watched):
    with watched.client(ssl=insecure(), additional_headers=bearer("ann")) as client:
        client.open("toy")
        client.send(some_events(20))
        wait_until(lambda: counted(watched, "saccade_snapshot_bytes_sum") > 0)
        client.finish()
    assert counted(watched, "saccade_snapshot_seconds_sum") > 0
    count = counted(watched, "saccade_snapshot_seconds_count")
    assert counted(watched, "saccade_snapshot_bytes_count") == count


def insecure() -> Any:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_a_server_that_has_streamed_has_compiled_nothing_since_it_was_ready(server):
    with server.client() as client:
        client.open("toy")
        client.send(some_events(300))
        client.finish()
    assert counted(server, "saccade_device_recompiles_total", device="cpu:0") == 0
    assert counted(server, "saccade_device_busy_seconds_total", device="cpu:0") > 0


def test_a_model_that_misses_its_canary_is_counted_and_not_ready():
    wrong = toy_model(wrong_by=1.0)
    with serving(wrong, wait=lambda service: service.engine.health.failed) as server:
        wait_until(lambda: server.service.engine.health.failed)
        assert counted(server, "saccade_canary_failures_total", model="toy") == 1
        assert counted(server, "saccade_model_ready", model="toy") == 0


def test_the_model_that_is_served_is_named_with_its_hash_and_its_precision(server):
    facts = {
        "model": "toy",
        "hash": "0123abcd",
        "precision": "float32",
        "execution": "fastest",
    }
    assert counted(server, "saccade_model_info", **facts) == 1
    assert counted(server, "saccade_model_ready", model="toy") == 1
    assert counted(server, "saccade_slots", model="toy") == 6
    assert counted(server, "saccade_sessions_limit", model="toy") == 1024
