"""A real Redis of the test's own, where one is installed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from tests.toy import wait_until


class RedisServer:
    """A `redis-server` on a free port, which may be killed and started again.

    Args:
        folder: Where it keeps its data, at once.
        options: Further options of `redis-server`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server here (on Debian: apt install redis-server)")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.place = f"127.0.0.1:{port}"
        self.url = f"redis://{self.place}/0"
        self._folder = folder
        self._command = [
            *(program, "--port", str(port), "--bind", "127.0.0.1"),
            *("--dir", str(folder), "--save", "", "--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", "always"),
            *options,
        ]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self._answers)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Delete what a Redis that was killed has written."""
        shutil.rmtree(self._folder / "appendonlydir")

    def pause(self) -> None:
        """Let it hang: it takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete everything."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    @property
    def state(self) -> str:
        """The state of the cluster that it is part of, as it knows it."""
        with redis.Redis.from_url(self.url) as client:
            return str(client.cluster("info")["cluster_state"])

    @property
    def keys(self) -> int:
        """How many keys it has."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.dbsize())

    def _answers(self) -> bool:
        assert self._process.poll() is None, "redis-server ended"
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class RedisCluster:
    """Three nodes on free ports that share the slots, while the context lasts.

    Args:
        folder: Where they keep their data.
    """

    def __init__(self, folder: Path) -> None:
        self._nodes = []
        for number in range(3):
            place = folder / str(number)
            place.mkdir()
            self._nodes.append(RedisServer(place, "--cluster-enabled", "yes"))
        places = [node.place for node in self._nodes]
        self.url = "redis+cluster://" + ",".join(places[:2])

    def __enter__(self) -> RedisCluster:
        places = [node.place for node in self._nodes]
        command = ("redis-cli", "--cluster", "create", *places, "--cluster-yes")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for node in self._nodes:
            wait_until(lambda node=node: node.state == "ok")
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.kill()

    def counts(self) -> list[int]:
        """Return how many keys each node has."""
        return [node.keys for node in self._nodes]
