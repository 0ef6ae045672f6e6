"""Port, store, clock, limits, versions and what runs models, as doctor finds them."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from saccade.checkpoints import released
from saccade.server.devices import Gpu
from saccade.server.doctor.findings import Finding, as_text, summary
from saccade.server.doctor.machine import (
    Requirement,
    check_compiled,
    check_memory,
    free_bytes,
    judge_version,
)
from saccade.server.doctor.models import check_models, judge_unused, run_trial
from saccade.server.doctor.network import (
    Skew,
    check_clock,
    check_port,
    judge_skew,
    measure_skew,
)
from saccade.server.doctor.stores import check_redis, check_store, check_uploads
from saccade.server.doctor.trial import Order, try_checkpoints, try_devices
from tests.redis_server import RedisCluster, RedisServer
from tests.server.doctor.conftest import Examined

HOUR_S = 3600.0


def worse(findings: Iterable[Finding]) -> list[str]:
    return [f"{each.level}: {each.text}" for each in findings if each.level != "ok"]


def test_a_port_that_is_taken_is_named_with_who_has_it(examined: Examined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        (finding,) = check_port(examined(port=port))
    assert finding.level == "fault"
    assert "another program listens there" in finding.text
    if Path("/proc/net/tcp").exists():
        assert f"process {os.getpid()}" in finding.text
    assert "--port" in finding.remedy
    (finding,) = check_port(examined(port=port))
    assert finding.level == "ok"


def test_a_server_that_runs_already_is_no_fault(examined: Examined) -> None:
    program = "import socket; s = socket.create_server(('127.0.0.1', 0)); "
    program += "print(s.getsockname()[1], flush=True); input()"
    command = [sys.executable, "-c", program, "saccade", "serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        (finding,) = check_port(examined(port=int(other.stdout.readline())))
        other.kill()
    if not Path("/proc/net/tcp").exists():
        pytest.skip("this system does not say who listens")
    assert finding.level == "warning"
    assert finding.text.startswith("a server of Saccade listens on port")
    assert f"process {other.pid}" in finding.text


def test_an_address_of_another_machine_is_named(examined: Examined) -> None:
    (finding,) = check_port(examined(host="192.0.2.1"))
    assert finding.level == "fault"
    assert "this machine has no such address" in finding.text


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"this is no database, however long it may be" * 100)
    return path


def test_a_store_that_cannot_be_written_is_named(
    examined: Examined, a_file: Path
) -> None:
    (found,) = worse(check_store(examined(store_path=a_file / "sessions")))
    assert found == f"fault: cannot write {a_file}/sessions: {a_file}: Not a directory"
    (found,) = worse(check_store(examined(store_path=a_file)))
    assert "file is not a database" in found


def test_a_store_that_a_server_writes_to_passes_and_is_left_as_it_is(
    examined: Examined, tmp_path: Path
) -> None:
    path = tmp_path / "sessions.sqlite"
    writer = sqlite3.connect(path, isolation_level=None)
    subject = examined(store_path=path)
    assert worse(check_store(subject)) == []
    assert writer.execute("SELECT name FROM sqlite_master").fetchall() == []
    writer.execute("BEGIN EXCLUSIVE")
    assert worse(check_store(subject)) == []
    writer.close()


def test_a_store_in_memory_is_named_and_one_that_keeps_nothing_is_not(
    examined: Examined,
) -> None:
    (found,) = worse(check_store(examined(store="memory")))
    assert "they end with the server" in found
    assert worse(check_store(examined(store="memory", snapshot_s=0))) == []


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    options = ("--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru")
    server = RedisServer(tmp_path_factory.mktemp("redis"), *options)
    yield server
    server.kill()


def test_a_redis_that_may_drop_sessions_is_named(redis_server: RedisServer) -> None:
    (found,) = worse(check_redis(redis_server.url))
    assert "may drop sessions: its maxmemory-policy is volatile-lru" in found


def test_a_clock_that_differs_from_redis_is_named(redis_server: RedisServer) -> None:
    found = worse(check_redis(redis_server.url, lambda: time.time() + HOUR_S))
    assert f"s ahead of that of Redis at {redis_server.place}" in found[-1]
    assert found[-1].startswith("fault")
    found = worse(check_redis(redis_server.url, lambda: time.time() - HOUR_S))
    assert "behind" in found[-1]


def test_a_replica_and_a_redis_without_persistence_are_named(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    replica = RedisServer(
        tmp_path, "--appendonly", "no", "--replicaof", *redis_server.place.split(":")
    )
    try:
        found = worse(check_redis(replica.url))
    finally:
        replica.kill()
    assert "is a replica, only for reading" in found[0]
    assert "has no append-only file" in found[1]


def test_a_redis_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path,
) -> None:
    server = RedisServer(tmp_path)
    server.kill()
    url = server.url.replace("://", "://:sesame@")
    (finding,) = check_redis(url)
    assert finding.level == "fault"
    assert server.place in finding.text
    assert "sesame" not in f"{finding}"
    (finding,) = check_redis("http://:sesame@host")
    assert finding.level == "fault"
    assert "sesame" not in f"{finding}"


@pytest.mark.slow
def test_each_node_of_a_cluster_is_examined(tmp_path: Path) -> None:
    with RedisCluster(tmp_path) as cluster:
        found = [*check_redis(cluster.url)]
    assert worse(found) == []
    assert len([each for each in found if "answers, version" in each.text]) == 3


def test_a_clock_that_was_never_set_is_a_fault(examined: Examined) -> None:
    (found,) = worse(check_clock(examined(), lambda: 3 * HOUR_S))
    assert "the clock says 1970-01-01" in found


def test_a_server_that_says_no_time_is_a_warning(examined: Examined) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    (found,) = worse(check_clock(examined()._replace(against=url)))
    assert found.startswith("warning")
    assert url in found


@pytest.mark.parametrize(
    ("ahead_s", "level"),
    [(0.9, "ok"), (-1.9, "ok"), (-2.1, "warning"), (10.9, "warning"), (-12, "fault")],
)
def test_what_a_comparison_cannot_tell_apart_is_no_skew(
    ahead_s: float, level: str
) -> None:
    assert judge_skew(Skew(ahead_s, within_s=1.0), "another").level == level


def test_a_slow_answer_makes_no_skew() -> None:
    times = iter((100.0, 108.0))
    skew = measure_skew(lambda: 101.0, lambda: next(times))
    assert skew == Skew(ahead_s=3.0, within_s=4.0)
    assert judge_skew(skew, "another").level == "ok"


@pytest.mark.parametrize(
    ("installed", "fault"),
    [
        ("0.10.2", "computes wrong numbers"),
        ("0.11.0", "computes wrong numbers"),
        ("0.11", "computes wrong numbers"),
        ("0.10.0", "too old"),
        ("0.9.2", "too old"),
        ("0.10.1", None),
        ("0.10.1+local", None),
        ("0.12.0.1", None),
        ("0.13.0", "too new"),
    ],
)
def test_versions_that_compute_wrong_numbers_are_named(
    installed: str, fault: str | None
) -> None:
    bounds = (">=", "0.10.1"), ("!=", "0.10.2"), ("!=", "0.11.0"), ("<", "0.13")
    finding = judge_version(Requirement("jaxlib", bounds, needed=True), installed)
    assert (finding is None) == (fault is None)
    if finding is not None and fault is not None:
        assert (finding.level, fault in finding.text) == ("fault", True)


def test_the_limit_of_a_container_counts_as_memory(
    tmp_path: Path, examined: Examined
) -> None:
    group = tmp_path / "sys/fs/cgroup/box"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    assert free_bytes(tmp_path) is None
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   8192 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/box\n")
    assert free_bytes(tmp_path) == 8 << 20
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{5 << 20}\n")
    (group.parent / "memory.current").write_text(f"{1 << 20}\n")
    assert free_bytes(tmp_path) == 4 << 20
    (found,) = worse(check_memory(examined(sessions=10**9)))
    assert "MiB are free; the server takes about" in found


def test_a_folder_of_code_that_others_can_write_to_is_named(
    examined: Examined, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir(mode=0o700)
    assert worse(check_compiled(examined(compiled=folder))) == []
    folder.chmod(0o777)
    (found,) = worse(check_compiled(examined(compiled=folder)))
    assert "from where code is run" in found


def test_a_disk_too_small_for_the_uploads_is_named(examined: Examined) -> None:
    assert worse(check_uploads(examined(max_uploads_bytes=1))) == []
    (found,) = worse(check_uploads(examined(max_uploads_bytes=1 << 60)))
    assert "uploads may take" in found


def test_a_gpu_that_only_the_driver_sees_is_named() -> None:
    (finding,) = judge_unused("auto", [Gpu("NVIDIA H200", 1 << 37)] * 2)
    assert finding.text.startswith("the driver lists NVIDIA H200, and the CPU runs")
    assert "saccade[cuda13]" in finding.remedy
    assert [*judge_unused("cpu", [Gpu("NVIDIA H200", 1 << 37)])] == []
    assert [*judge_unused("auto", [])] == []


def test_a_device_that_was_asked_for_and_is_not_there_is_named(
    examined: Examined,
) -> None:
    environment = {"JAX_PLATFORMS": "cpu"}
    found = [*check_models(examined(environment, device="cuda:3"))]
    assert found[0].level == "fault"
    assert found[0].text.startswith("there is no cuda:3 to run on")
    assert {each.check for each in found[1:]} == {"checkpoints"}
    assert len(found) == 1 + len(released())


@pytest.mark.parametrize(
    ("order", "within_s", "words"),
    [
        ("no order", 60.0, "the process that tried this failed: json.decoder"),
        (json.dumps(["cpu", [0], False, [], []]), 0.0, "took longer than 0 s"),
    ],
)
def test_a_trial_that_ends_badly_is_a_fault(
    order: str, within_s: float, words: str
) -> None:
    *_, finding = run_trial(order, os.environ, within_s)
    assert finding.level == "fault"
    assert words in finding.text


def test_a_library_that_ends_its_process_is_named_by_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numba.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    order = json.dumps(["cpu", [0], True, [], []])
    (finding,) = run_trial(order, os.environ)
    assert (finding.check, finding.level) == ("compilers", "fault")
    assert "was ended by SIGKILL" in finding.text


def test_models_of_one_name_and_precisions_of_none_are_named() -> None:
    folder = str(released()[0])
    order = Order("cpu", [0], True, [folder, folder], ["", "nobody"])
    found = worse(try_checkpoints(order))
    assert found[0] == f"fault: two checkpoints have the name {released()[0].name!r}"
    assert "matmul_precision names 'nobody'" in found[1]


def test_a_device_that_jax_does_not_have_is_named() -> None:
    (finding,) = try_devices(Order("cpu", [63], True, [], []))
    assert finding.level == "fault"
    assert "CPU devices" in finding.text
    (finding,) = try_devices(Order("cpu", [0], True, [], []))
    assert finding.level == "ok"


def test_findings_are_lines_with_what_to_do_below() -> None:
    findings = [
        Finding("port", "ok", "it is free"),
        Finding("clock", "fault", "word " * 40, "set it"),
    ]
    lines = "\n".join(as_text(findings)).split("\n")
    assert lines[0] == "ok       port           it is free"
    assert lines[1].startswith("fault    clock          word word")
    assert lines[2].startswith(" " * 24 + "word")
    assert lines[-1] == " " * 24 + "-> set it"
    assert max(map(len, lines)) <= 100
    assert summary(findings) == "1 fault, 1 well"
    assert summary(findings[:1]) == "all 1 checks are well"
