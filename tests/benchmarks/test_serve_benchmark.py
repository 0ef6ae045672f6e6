"""The benchmarks of the whole way and of the host path measure what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks import comparison, free_backend, host, serve
from benchmarks.baseline import CONFIGURATIONS
from benchmarks.processes import (
    Thread,
    label,
    resident_mib,
    running_beside,
    thread_times_s,
)
from benchmarks.serve_cases import (
    REPORTS,
    Case,
    all_cases,
    quick_cases,
    sensors,
    shape_of,
)
from benchmarks.sink import sink
from saccade.clients.benchmark.crew import Crew
from saccade.server.engine.measuring import measure_into
from saccade.server.engine.native_code import start_python


def test_every_frame_size_and_report_is_a_case_of_each_model():
    cases = all_cases("motions")
    single = {(case.frame_events, case.report) for case in cases if case.sessions == 1}
    assert single == {(n, report) for n in (256, 4096, 32768) for report in REPORTS}
    assert {case.sessions for case in cases} == {1, 16, 64, 20}
    assert set(quick_cases("motions")) < set(cases)
    assert len({(case.name, case.report) for case in cases}) == len(cases)
    assert sensors("motions").frame_events == 1000


def test_a_case_keeps_two_frames_of_every_session_under_way():
    load = Case("dvs/small", 64, 32768, "flush").load(1, sensor=[128, 128])
    assert load.most_events == 2 * 32768
    assert load.flushing
    assert not load.every_tick
    assert load.opening["model"] == "dvs-small"
    assert json.loads(json.dumps(asdict(load)))["held_back"] == 1
    assert [shape_of(n) for n in (1, 20, 64)] == [(1, 64), (8, 4), (64, 1)]


def test_the_sink_acknowledges_all_that_the_client_sends():
    case = Case("sink", 2, 256, "100 ms")
    with sink() as url, Crew(url, case.load(0, sensor=[128, 128]), 2, 1) as crew:
        measured = crew.run(0.2)
        closed = crew.close()
    assert measured.complete
    assert measured.scored_events == measured.sent_events == closed["sent"] > 0
    assert (closed["wrong"], closed["unanswered"]) == (0, 0)


def test_each_threads_cpu_time_is_told_apart():
    busy, done = threading.Event(), threading.Event()

    def work() -> None:
        while time.thread_time() < 0.1:
            pass
        busy.set()
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    busy.wait()
    times_s = {one.thread: s for one, s in thread_times_s(os.getpid()).items()}
    done.set()
    thread.join()
    assert times_s[thread.native_id] >= 0.09
    assert resident_mib(os.getpid()) > 1
    assert label(Thread(5, 5, "python"), 5) == "main"
    assert label(Thread(6, 7, "device"), 5) == "6: device"


def test_a_process_is_found_from_the_moment_that_it_is_started():
    program = "import sys; sys.stdin.read()  # named_so"
    for _ in range(50):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE
        ) as process:
            assert running_beside(os.getpid(), "named_so") == [process.pid]
            process.communicate()
        assert running_beside(os.getpid(), "named_so") == []


def test_a_quick_run_ends_what_compares_the_backends_beside_a_server(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))  # waits for code to come there
    with start_python(measure_into, str(tmp_path)) as process:
        comparison.end_comparison(os.getpid())
        assert process.wait() == -signal.SIGTERM
    comparison.await_comparison(os.getpid())


def test_the_free_backend_scores_nothing_but_zeros():
    config = replace(CONFIGURATIONS["dvs/small"], pooling_stride=4)
    backend = free_backend.free(config, None)
    tokens = np.ones((3, 2 * config.tick_events), np.int32)
    carry, logits = backend.advance(
        config, backend.weights, "carry", tokens, 0.5 * tokens, np.array([2, 1, 0])
    )
    assert carry == "carry"
    assert logits.shape == (3, 2, config.num_classes)
    assert not logits.any()


def test_a_server_started_for_it_runs_the_free_backend():
    program = "from saccade.model.backends import BACKENDS as b; print(b['fastest'])"
    command = [sys.executable, "-c", program]
    before = dict(os.environ)
    with free_backend.serving_free():
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "function free" in found.stdout
    assert dict(os.environ) == before


def test_what_one_run_compiles_the_next_one_finds(tmp_path):
    stated = "; ".join(
        (
            "import benchmarks.serve, jax, os",
            "print(jax.config.jax_compilation_cache_dir)",
            "print(os.environ['NUMBA_CACHE_DIR'])",
        )
    )
    named = ("NUMBA_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")
    told = {name: v for name, v in os.environ.items() if name not in named}
    found = subprocess.run(
        [sys.executable, "-c", stated],
        env={**told, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    kept = tmp_path / "saccade"
    assert found.stdout.split() == [str(kept / "benchmarks"), str(kept / "native")]


@pytest.mark.slow
def test_the_host_path_is_measured_stage_by_stage(tmp_path):
    path = tmp_path / "host.json"
    few = ["--sessions", "8", "--frame-events", "256", "--frame-events", "4096"]
    assert host.main(["--seconds", "0.3", *few, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert len(written["cases"]) == 4
    for case in written["cases"]:
        assert case["events_per_s"] > 0
        assert set(case["loop_us"]) == {"read", "feed", "hear", "write", "rest"}
        assert case["batch_ticks"] >= 1
        assert all(us >= 0 for us in case["loop_us"].values())
    assert written["extremes"]["export_ms"] > 0
    assert written["extremes"]["pack_ms"] > 0


@pytest.mark.slow
def test_the_whole_way_is_measured_beside_the_engine(tmp_path):
    path = tmp_path / "serve.json"
    short = ["--slices", "1", "--seconds", "0.3", "--model", "motions"]
    assert serve.main(["--quick", *short, "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    first, *rest = written["cases"]
    assert first["engine_share"] > 0
    assert first["scored_events"] == first["sent_events"] > 0
    assert first["closed"]["wrong"] == 0
    assert "main" in first["server_threads"]
    assert [row["sessions"] for row in rest] == [20, 19, 1, 1]
    assert len(written["client_ceilings"]) == 3
    assert written["machine"]["versions"]["saccade"]
