"""Threads share a call's blocks: its scores and the threads are the same afterwards."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import jax
import pytest

from benchmarks.baseline import CONFIGURATIONS
from tests.model.cpu_kernels.test_cpu_kernels import in_a_process

pytest.importorskip("numba", reason="no native code without numba")

from saccade.model.cpu_kernels import packing
from saccade.model.cpu_kernels.call import Plan

pytestmark = [
    pytest.mark.skipif(
        jax.default_backend() != "cpu", reason="native code is for a CPU"
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="cores are chosen on Linux"),
]

RUN = """
import hashlib, json, os, sys
from pathlib import Path

CORES, MOVED = json.loads(sys.argv[1]), json.loads(sys.argv[2])
os.sched_setaffinity(0, CORES)
import numpy as np
from tests.model.cpu_kernels.test_cpu_kernels import SESSIONS, network
import jax

def allowed():
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    return [sorted(os.sched_getaffinity(thread)) for thread in threads]

of = network(0)
digests = []
for seed in range(12):
    batch = of.batch(seed, ticks=160)
    found = of.native(of.carries(np.inf), *batch)
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found)]
    digests.append(hashlib.sha256(b"".join(leaves)).hexdigest())
    if MOVED:
        for task in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(task.name), MOVED)
print(json.dumps([digests, all(cores == (MOVED or CORES) for cores in allowed())]))
"""
ALL = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []

WOKEN = """
import sys
from pathlib import Path
import numpy as np
from saccade.model.cpu_kernels import packing
work = packing.THREAD_WORK
from tests.model.cpu_kernels.test_cpu_kernels import network
packing.THREAD_WORK = int(sys.argv[1]) or work
import jax

def wakings():
    tasks = [task for task in Path("/proc/self/task").iterdir()
             if (task / "comm").read_text().startswith("tf_XLAEigen")]
    lines = [line for task in tasks for line in (task / "status").open()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))

of = network(0)
batch = of.batch(0, ticks=8)
jax.block_until_ready(of.native(of.carries(np.inf), *batch))
before = wakings()
for _ in range(100):
    jax.block_until_ready(of.native(of.carries(np.inf), *batch))
print(wakings() - before)
"""


def run(threads: int, cores: list[int], moved: list[int] | None = None) -> Any:
    """Return each call's digest, and whether all threads may use the same cores."""
    program = f"import sys; sys.argv[1:] = {json.dumps(cores)!r}, {json.dumps(moved)!r}"
    return json.loads(in_a_process(f"{program}\n{RUN}", NPROC=str(threads)))


def test_however_many_threads_share_a_call_its_scores_are_the_same() -> None:
    expected, _ = run(1, ALL)
    assert len(set(expected)) == 12
    for threads in (2, 3, 7):
        assert run(threads, ALL) == [expected, True]
    assert run(2, ALL[:1]) == [expected, True]


def test_threads_that_are_moved_to_other_cores_stay_there() -> None:
    expected, stay = run(3, ALL, ALL[-1:])
    assert stay
    assert run(1, ALL) == [expected, True]


def test_a_small_call_wakes_no_other_thread() -> None:
    woken = {
        work: int(
            in_a_process(f"import sys; sys.argv[1:] = ['{work}']\n{WOKEN}", NPROC="7")
        )
        for work in (0, 1)
    }
    assert woken[0] < 150 < woken[1], "XLA wakes one for each of the hundred calls"


def test_the_more_cores_there_are_the_less_work_is_worth_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CONFIGURATIONS["dvs/small"]
    monkeypatch.setattr(packing, "THREAD_WORK", 35_000_000)

    def thread_ticks(other_cores: int) -> int:
        monkeypatch.setattr(packing, "OTHER_CORES", other_cores)
        return Plan(*packing.plan(config, 8, 1, 256)[: len(Plan._fields)]).thread_ticks

    assert [thread_ticks(cores) for cores in (1, 2, 15)] == [4, 2, 1]
