"""`saccade serve --ray` on a Redis of its own, as an operator starts and scales it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import redis

from benchmarks.processes import with_children
from saccade.server.fleet.report import Replica, Report, replicas_of
from saccade.server.ray_serve.local import authorization, deploy
from tests.redis_server import RedisServer

SERVING_S: Final = 600.0
"""Ray, Serve and a replica take half a minute on an idle machine."""
POLL_S: Final = 0.2
LISTEN: Final = "0A"
"""The state of a socket that listens, in Linux' tables."""
APPLICATIONS: Final = "/api/serve/applications/"


class RayCluster:
    """Ray, Serve and one replica at first; ended by `close`.

    Args:
        folder: The home of Ray's token, and of Redis's data.
        options: Of `saccade serve`, beside those that make it one of Ray's.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self.redis = RedisServer(folder)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, "HOME": str(folder)}
        token = folder / ".ray" / "auth_token"
        self._token = {"RAY_AUTH_TOKEN_PATH": str(token)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 closed by `close`
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "saccade", "serve", "--ray"),
                *("--port", str(port), "--replicas", "1"),
                *("--store-url", self.redis.url),
                *options,
            ],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait_until_serving(self) -> None:
        """Wait for the line that says so."""
        self.wait_until(lambda: "places sessions" in self.log)
        found = re.search(r"dashboard is on (\S+)", self.log)
        assert found is not None
        self.dashboard = found[1]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Poll what notifies nobody."""
        deadline_s = time.monotonic() + SERVING_S
        while not condition():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline_s, self.log
            time.sleep(POLL_S)

    @property
    def log(self) -> str:
        """All that `saccade serve` has written."""
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def reconfigure(self, **changes: Any) -> None:
        """Deploy the config again, with changes to the replicas' part."""
        found = self._state()
        application = found["applications"]["saccade"]["deployed_app_config"]
        application["deployments"][0] |= changes
        config = {
            "proxy_location": found["proxy_location"],
            "http_options": found["http_options"],
            "applications": [application],
        }
        deploy(self.dashboard, config, self._token)

    def replicas(self) -> dict[str, dict[str, Any]]:
        """Return what Serve says of each replica, by its name."""
        application = self._state()["applications"]["saccade"]
        replicas = application["deployments"]["Replica"]["replicas"]
        return {one["replica_id"]: one for one in replicas}

    def running(self) -> set[str]:
        """Return the names of the replicas that Serve takes to be ready."""
        found = self.replicas().items()
        return {name for name, one in found if one["state"] == "RUNNING"}

    def fleet(self) -> dict[str, Replica]:
        """Return the replicas that report to the others, by their names."""
        with redis.Redis.from_url(self.redis.url) as client:
            texts = client.hvals("saccade:{fleet}:reports")
        found = replicas_of(Report.from_json(text) for text in texts)
        return {one.name: one for one in found}

    def places(self) -> dict[str, str]:
        """Return the replica of each session that has a client, by the session's id."""
        sessions = self.answer("/v1/sessions")[1]["sessions"]
        return {one["session"]: one["replica"] for one in sessions}

    def ready(self, replica: str) -> bool:
        """Return what a replica's own server says of its readiness."""
        try:
            with urllib.request.urlopen(
                self.fleet()[replica].url + "/readyz"
            ) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def server_of(self, replica: str) -> int:
        """Return the id of a replica's server process."""
        actor = self.replicas()[replica]["pid"]
        threads = Path(f"/proc/{actor}/task").glob("*/children")
        (server,) = [int(one) for each in threads for one in each.read_text().split()]
        return server

    def listens_at(self) -> list[str]:
        """Return the address of each socket that the cluster listens on, in hex."""
        sockets = {
            os.readlink(file)
            for process in with_children(self._process.pid)
            for file in Path(f"/proc/{process}/fd").glob("*")
            if file.is_symlink()
        }
        lines = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        ]
        return [
            fields[1].partition(":")[0]
            for fields in lines
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in sockets
        ]

    def answer(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask Serve's address, as a client does."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def stop(self) -> int:
        """Stop as a service manager does; return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(SERVING_S)

    def close(self) -> None:
        """Stop, by force if need be, and remove what is left."""
        try:
            self.stop()
        finally:
            self._process.kill()
            self.redis.kill()
            self._log.close()

    def _state(self) -> Any:
        headers = authorization(self._token)
        request = urllib.request.Request(self.dashboard + APPLICATIONS, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())
