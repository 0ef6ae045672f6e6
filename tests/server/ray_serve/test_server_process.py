"""The server of a replica: its port, its start, and its end with the replica."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from saccade.server.listening import CannotListen
from saccade.server.ray_serve.errors import ServerFailed, ServerSilent
from saccade.server.ray_serve.server_process import (
    ServerProcess,
    among_others,
    listen_in,
)
from saccade.server.settings import Settings
from tests.clients.untrained import save_untrained

ENDED_S = 120.0


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_replica_takes_the_next_port_where_one_is_taken(taken):
    try:
        (found,) = listen_in("127.0.0.1", range(taken, taken + 50))
    except CannotListen:
        pytest.skip("no port after that one is free here")
    with closing(found):
        assert taken < found.getsockname()[1] < taken + 50


def test_ports_that_are_all_taken_are_named(taken):
    with pytest.raises(CannotListen, match=f"port {taken} .* none of the ports"):
        listen_in("127.0.0.1", range(taken, taken + 1))


def test_a_replica_is_reached_at_the_machine_s_own_address_where_ray_says_loopback():
    assert among_others("10.1.2.3") == "10.1.2.3"
    found = among_others("127.0.0.1")
    family = socket.AF_INET6 if ":" in found else socket.AF_INET
    with socket.create_server((found, 0), family=family) as own:
        assert own.getsockname()[1], "an address of this machine"


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(tmp_path):
    settings = Settings(store="memory", models=(tmp_path / "none",))
    server = ServerProcess(settings, range(1), "127.0.0.1")
    with pytest.raises(ServerFailed, match=f"ended with status 1(?s:.*){tmp_path}"):
        server.wait_until_ready()


@pytest.mark.slow
def test_a_server_drains_and_ends_once_its_replica_has_ended(tmp_path: Path):
    save_untrained(tmp_path / "net", "net", ("a", "b"), 8)
    settings = Settings(
        store="memory", models=(tmp_path / "net",), buckets=((1, 1),), slots=4
    )
    server = ServerProcess(settings, range(1), "127.0.0.1")
    try:
        server.wait_until_ready()
        assert server.ask("GET", "/v1/models").status == 200
        server.check()
        ends: list[int] = []
        server.when_ended(ends.append)
        assert server._process.stdin is not None
        server._process.stdin.close()  # as the end of the replica's process does
        assert server._process.wait(ENDED_S) == 0
        assert "has stopped" in server.log
        with pytest.raises(ServerSilent, match="not well"):
            server.check()
    finally:
        server.kill()
