"""A real Prometheus of the test's own, where one is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

DOCKER = Path(__file__).parents[1] / "docker"
WAIT_S = 300.0
OFTEN = "500ms"


def binary(name: str) -> str:
    """Return a program's path, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine (on Debian: apt install prometheus)")
    return found


class PrometheusServer:
    """A Prometheus, configured as docker/ configures it, that scrapes one server.

    It scrapes and evaluates the alerts more often, on a port and in a folder of the
    test's own.

    Args:
        folder: Where it keeps its data.
        url: The server's.
        hold: How long a condition holds before its alert fires; None: as in docker/.
    """

    def __init__(self, folder: Path, url: str, hold: str | None = None) -> None:
        program = binary("prometheus")
        config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": OFTEN, "evaluation_interval": OFTEN}
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
        job["authorization"]["credentials_file"] = str(folder / "key")
        (folder / "key").write_text("no server of these tests asks for one")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "alerts.yml").write_text(yaml.safe_dump(alerts_after(hold)))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ]
        self._url, self._log = f"http://{address}", folder / "log"
        with self._log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def get(self, path: str, **parameters: str | float) -> httpx.Response | None:
        """Ask its HTTP interface; None while it does not answer yet."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self._url}/api/v1/{path}", params=parameters)
        except httpx.TransportError:
            return None

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return a query's samples; none while it does not answer yet."""
        answer = self.get("query", query=query)
        if answer is None or not answer.is_success:
            return []
        samples: list[dict[str, Any]] = answer.json()["data"]["result"]
        return samples

    def value(self, query: str) -> float:
        """Return the sum of a query's samples, 0 where there are none."""
        return sum(float(sample["value"][1]) for sample in self.ask(query))

    def firing(self, alert: str) -> bool:
        return bool(self.ask(f'ALERTS{{alertname="{alert}", alertstate="firing"}}'))

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end_s, f"{what}: {self._log.read_text()[-2000:]}"
            time.sleep(0.1)


def alerts_after(hold: str | None) -> dict[str, Any]:
    """Return the rules, whose alerts fire after another time if one is given."""
    found: dict[str, Any] = yaml.safe_load((DOCKER / "alerts.yml").read_text())
    for group in found["groups"]:
        for rule in group["rules"]:
            if hold is not None and "for" in rule:
                rule["for"] = hold
    return found
