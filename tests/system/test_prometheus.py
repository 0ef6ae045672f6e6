"""A real Prometheus, configured as docker/ configures it, sees what is streamed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from saccade.clients.commands.server_process import ServerProcess
from tests.system.offline import filmed
from tests.wire import client_of

DOCKER = Path(__file__).parents[2] / "docker"
THROUGHPUT = "rate(saccade_events_scored_total[1m])"
WAIT_S = 300.0


def binary(name: str) -> str:
    """Return a program's path, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine (on Debian: apt install prometheus)")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Prometheus:
    """A Prometheus that runs, and its HTTP interface."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._url = url
        self._process = process
        self._log = log

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return a query's samples; none while it does not answer yet."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            answer = httpx.get(f"{self._url}/api/v1/query", params={"query": query})
        except httpx.TransportError:
            return []
        if not answer.is_success:
            return []
        samples: list[dict[str, Any]] = answer.json()["data"]["result"]
        return samples

    def value(self, query: str) -> float:
        """Return a query's value for the digits' model, 0 while there is none."""
        for sample in self.ask(query):
            if sample["metric"]["model"] == "nmnist":
                return float(sample["value"][1])
        return 0.0

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end_s, f"{what}: {self._log.read_text()[-2000:]}"
            time.sleep(0.1)


@pytest.fixture
def prometheus(server: ServerProcess, tmp_path: Path) -> Iterator[Prometheus]:
    """Start one as compose.yaml does, on ports and a folder of the test's own."""
    program = binary("prometheus")
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "500ms"
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
    ]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield Prometheus(f"http://{address}", process, log)
    finally:
        process.kill()
        process.wait()


def test_prometheus_scrapes_the_server_and_answers_with_its_throughput(
    server, prometheus
):
    scored = "saccade_events_scored_total"
    prometheus.wait_for("up", lambda: up(prometheus))
    before = prometheus.value(scored)
    events = filmed("nmnist")
    with client_of(server.url) as client:
        client.open("nmnist")
        client.send(events)
        closed = client.finish()
    assert closed.events > 0
    after = before + closed.events
    prometheus.wait_for("scored", lambda: prometheus.value(scored) == after)
    prometheus.wait_for("rate", lambda: prometheus.value(THROUGHPUT) > 0)


def up(prometheus: Prometheus) -> bool:
    samples = prometheus.ask('up{job="saccade"}')
    return [sample["value"][1] for sample in samples] == ["1"]


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
    checked = subprocess.run(
        [binary("promtool"), "check", "config", str(DOCKER / "prometheus.yml")],
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stderr.decode()
