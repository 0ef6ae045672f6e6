"""A real Prometheus, configured as docker/ configures it, sees what is streamed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from saccade.clients.commands.server_process import ServerProcess
from saccade.server.protocol.messages import Result
from tests.project.monitoring import queries
from tests.prometheus_server import DOCKER, PrometheusServer, binary
from tests.redis_server import RedisServer
from tests.system.offline import filmed
from tests.system.survivors import mortal
from tests.wire import client_of

THROUGHPUT = "rate(saccade_events_scored_total[1m])"
CLIENTS = 6
REQUESTS = 5


@pytest.fixture
def prometheus(server: ServerProcess, tmp_path: Path) -> Iterator[PrometheusServer]:
    running = PrometheusServer(tmp_path, server.url)
    yield running
    running.stop()


class Seen(NamedTuple):
    """What one client counted."""

    sent: int
    scored: int
    results: int
    session: str


def stream(url: str, number: int) -> Seen:
    """Stream a recording in parts of the client's own size; count what came of it."""
    events = filmed("nmnist")
    with client_of(url) as client:
        session = client.open("nmnist").session
        for part in np.array_split(events, 2 + number):
            client.send(part)
        closed = client.finish()
        results = len(client.of(Result))
    return Seen(len(events), closed.events, results, session)


def test_what_prometheus_has_scraped_under_load_is_what_the_clients_counted(
    server, prometheus
):
    model = '{model="nmnist"}'
    route = '{route="/v1/models", status="200"}'
    sums = {
        "saccade_events_received_total" + model: lambda seen: seen.sent,
        "saccade_events_scored_total" + model: lambda seen: seen.scored,
        "saccade_results_reported_total" + model: lambda seen: seen.results,
        "saccade_sessions_total" + model: lambda seen: 1,
        "saccade_http_request_duration_seconds_count" + route: lambda seen: REQUESTS,
    }
    httpx.get(f"{server.url}/v1/models")
    prometheus.wait_for("a scrape", lambda: prometheus.value("up") == 1)
    prometheus.wait_for("REST", lambda: prometheus.value([*sums][-1]) > 0)
    before = {query: prometheus.value(query) for query in sums}

    def load(number: int) -> Seen:
        for _ in range(REQUESTS):
            httpx.get(f"{server.url}/v1/models")
        return stream(server.url, number)

    with ThreadPoolExecutor(CLIENTS) as threads:
        clients = [*threads.map(load, range(CLIENTS))]
    assert min(seen.scored for seen in clients) > 0
    for query, count in sums.items():
        after = before[query] + sum(map(count, clients))
        prometheus.wait_for(query, lambda q=query, n=after: prometheus.value(q) == n)
    prometheus.wait_for("the rate", lambda: prometheus.value(THROUGHPUT) > 0)
    named = {seen.session for seen in clients}
    prometheus.wait_for("exemplars", lambda: bool(exemplars(prometheus) & named))


def exemplars(prometheus: PrometheusServer) -> set[str]:
    """Return the sessions that Prometheus keeps as exemplars."""
    where = {"query": "saccade_event_latency_seconds_bucket", "start": 0, "end": 1e11}
    answer = prometheus.get("query_exemplars", **where)
    return {
        one["labels"]["session"]
        for series in (answer.json()["data"] if answer else ())
        for one in series["exemplars"]
    }


def test_prometheus_answers_every_query_of_dashboards_and_alerts(server, prometheus):
    prometheus.wait_for("a scrape", lambda: prometheus.value("up") == 1)
    refused = {}
    for where, query in queries():
        if query.startswith("label_values"):
            continue  # Grafana's own
        asked = re.sub(r"\$(job|instance|model)", ".*", query)
        answer = prometheus.get("query", query=asked.replace("$__rate_interval", "5m"))
        if answer is None or not answer.is_success:
            refused[where] = answer
    assert refused == {}


@pytest.mark.slow
def test_a_store_that_is_killed_fires_its_alert_until_it_is_back(tmp_path):
    folders = [tmp_path / name for name in ("redis", "server", "prometheus")]
    for folder in folders:
        folder.mkdir()
    redis = RedisServer(folders[0])
    options = ("--store", "redis", "--store-url", redis.url)
    with mortal(folders[1], *options) as process, client_of(process.url) as client:
        prometheus = PrometheusServer(folders[2], process.url, hold="1s")
        try:
            client.open("nmnist")
            prometheus.wait_for("a scrape", lambda: prometheus.value("up") == 1)
            assert not prometheus.firing("SaccadeStoreOutage")
            redis.kill()
            client.send(filmed("nmnist"))
            client.socket.close()  # the session is saved now, or is to be
            fires = "SaccadeStoreOutage"
            prometheus.wait_for("the alert", lambda: prometheus.firing(fires))
            redis.start()
            prometheus.wait_for("its end", lambda: not prometheus.firing(fires))
        finally:
            prometheus.stop()
            redis.kill()


def test_the_query_of_the_compose_file_is_the_one_that_is_tested():
    assert THROUGHPUT in (DOCKER / "compose.yaml").read_text()


def test_promtool_finds_nothing_wrong_with_the_metrics(server):
    scrape = httpx.get(f"{server.url}/metrics").content
    assert b"saccade_events_scored_total" in scrape
    checked = subprocess.run(
        [binary("promtool"), "check", "metrics"], input=scrape, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr.decode()
    assert checked.stderr == b""


def test_promtool_accepts_the_configuration():
    config = str(DOCKER / "prometheus.yml")  # its key is in no file of this machine
    checked = subprocess.run(
        [binary("promtool"), "check", "config", "--syntax-only", config],
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stderr.decode()
