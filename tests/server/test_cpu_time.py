"""The CPU time that a container may use decides how many threads there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saccade.server.cpu_time import THREADS, CpuTime, cpu_time, variables
from saccade.server.serving import use_cpu_time

CORES = cpu_time().cores


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (
            {
                "proc/self/cgroup": "0::/pod/box",
                "sys/fs/cgroup/pod/cpu.max": "50000 50000",
                "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
            },
            1.0,
        ),
        (
            {
                "proc/self/cgroup": "3:cpuset:/box\n1:cpu,cpuacct:/box\n0::/",
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/docker/of-the-host",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "20000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            0.2,
        ),
        ({"sys/fs/cgroup/cpu.max": "0 0"}, None),
    ],
)
def test_the_quota_is_the_least_of_all_groups_of_either_version(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_time(write(tmp_path, files)) == CpuTime(CORES, quota)


@pytest.mark.parametrize(
    ("quota", "threads"),
    [(None, 4), (0.2, 1), (1.0, 1), (1.5, 2), (2.0, 2), (3.1, 4), (16.0, 4)],
)
def test_a_core_that_the_quota_gives_a_part_of_has_a_thread(
    quota: float | None, threads: int
) -> None:
    time = CpuTime(4, quota)
    assert time.threads == threads
    expected = {} if threads == 4 else {THREADS: str(threads)}
    assert variables(time, {}) == expected
    assert variables(time, {THREADS: "3"}) == {}


def test_the_threads_of_a_server_follow_its_own_quota() -> None:
    environment: dict[str, str] = {}
    use_cpu_time(environment)
    assert environment == variables(cpu_time(), os.environ | environment)
    assert (THREADS in environment) == (cpu_time().threads < CORES)
