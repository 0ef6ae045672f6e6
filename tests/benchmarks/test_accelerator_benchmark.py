"""The benchmark for accelerators measures what serves, and keeps its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks.accelerator import calls, expected, network, trace
from benchmarks.accelerator.ceilings import PRECISIONS
from benchmarks.accelerator.journal import Journal, Step, Unavailable
from benchmarks.accelerator.sizes import FULL, QUICK
from benchmarks.accelerator.steps import PLANNED_S, QUICK_S
from benchmarks.accelerator.variants import VARIANTS
from benchmarks.sequential import Network
from saccade.model.backends import xla
from saccade.model.classifier import expected_shapes, fold, leaves
from saccade.model.state_rows import RowLayout
from saccade.model.upstream.recipes import recipe
from saccade.server.engine.compiled import CANARY_TOLERANCES, bucket_call
from saccade.server.engine.model_registry import Canary
from saccade.server.engine.scheduler import Bucket
from saccade.server.engine.slots import packed_size, unpack

BARE = Path(__file__).with_name("bare.py")
ROOT = Path(__file__).parents[2]
PATHS = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.accelerator.journal import Journal, Step

def die():
    os.kill(os.getpid(), signal.SIGKILL)

journal = Journal({"quick": True}, 60.0, Path(sys.argv[1]))
journal.run([Step("one", 1.0, lambda: {"rate": 7}), Step("two", 1.0, die)])
"""


def done(value: object) -> Step:
    return Step(str(value), 1.0, lambda: value)


def test_a_run_that_is_killed_leaves_every_step_before(tmp_path) -> None:
    path = tmp_path / "result.json"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT)
    assert killed.returncode == -9
    written = json.loads(path.read_text())
    assert written["steps"]["one"]["result"] == {"rate": 7}
    assert (written["under_way"], written["complete"]) == ("two", False)
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_step_that_would_pass_the_limit_is_skipped_in_words() -> None:
    journal = Journal({}, 100.0, None)
    journal.run([Step("long", 101.0, lambda: 1), done("short")])
    steps = journal.result["steps"]
    assert steps["long"]["state"] == "skipped"
    assert "may take 101 s" in steps["long"]["reason"]
    assert steps["short"]["result"] == "short"
    assert journal.result["complete"]
    assert not journal.failed


def test_a_step_that_fails_or_lacks_another_says_so_and_the_rest_run() -> None:
    def fails() -> None:
        raise ValueError("no such kernel")

    def lacks() -> None:
        raise Unavailable("the step compile did not end")

    journal = Journal({}, 100.0, None)
    journal.run([Step("a", 1.0, fails), Step("b", 1.0, lacks), done("c")])
    steps = journal.result["steps"]
    assert steps["a"]["reason"] == "ValueError: no such kernel"
    assert steps["b"]["state"] == "skipped"
    assert steps["c"]["state"] == "done"
    assert journal.failed


def test_a_whole_run_is_planned_below_its_limit_of_480_s() -> None:
    assert sum(PLANNED_S.values()) < 500.0  # a step takes less than it may take
    assert PLANNED_S.keys() == QUICK_S.keys()
    assert set(FULL.compared) <= set(FULL.buckets)
    assert set(QUICK.compared) <= set(QUICK.buckets)
    assert max(bucket.rows for bucket in FULL.buckets) == FULL.slots == 1024
    most = max(b.rows * b.ticks for b in FULL.buckets) * network.CONFIG.tick_events
    assert most <= 262_144
    assert FULL.engine_ticks == (1, 4, 16)
    assert CANARY_TOLERANCES["float32"] == expected.TOLERANCE
    assert {"default", "tf32", "bf16", "highest", "tf32 x3"} <= PRECISIONS.keys()
    assert "no command buffers" in VARIANTS


def test_the_network_is_the_published_one_to_the_last_bit_everywhere() -> None:
    assert recipe(network.NAME).config == network.CONFIG
    found = leaves(network.variables())
    shapes = {name: leaf.shape for name, leaf in found.items()}
    assert shapes == expected_shapes(network.CONFIG)
    embedding = found["params/encoder/encoder/embedding"]
    assert embedding.dtype == np.float32
    assert embedding[0, :2].tobytes().hex() == "a82ccb3f211689bf"
    tokens, dt_ms = network.stream(5, 3)
    assert tokens.tolist() == [30329, 15602, 26572]
    assert (1000 * dt_ms).round().tolist() == [15.0, 13.0, 0.0]


def test_the_file_holds_scores_of_float64_arithmetic() -> None:
    kept, size = expected.read(), network.CONFIG.tick_events
    exact = Network(network.CONFIG, network.variables())
    events = network.stream(9, 2 * size)
    for tick in range(2):
        tokens, dt_ms = events.part(tick * size, (tick + 1) * size)
        truth = exact.feed(tokens, dt_ms.astype(np.float64))
        assert kept.short[9, tick] == pytest.approx(truth, rel=1e-6, abs=1e-6)
    assert np.array_equal(kept.short[0], kept.long[: expected.SHORT_TICKS])
    assert expected.PATH.stat().st_size < 100_000


def test_scores_of_another_network_are_refused_with_the_command_for_new_ones(
    tmp_path,
) -> None:
    path = tmp_path / "old.npz"
    kept = expected.read()
    np.savez(path, config="ModelConfig()", **kept._asdict())
    with pytest.raises(ValueError, match=r"python -m benchmarks.accelerator.expected"):
        expected.read(path)


class Stored:
    """Calls that return the file's scores, with an error of `off` in one of them."""

    def __init__(self, kept: expected.Expected, order: int, off: float) -> None:
        self._kept, self._order, self._off = kept, order, off

    def reset(self, rows: int) -> None:
        pass

    def advance(self, bucket: Bucket, words: np.ndarray) -> np.ndarray:
        rows = unpack(words, bucket).rows[:: self._order]
        scores = np.stack([self._kept.of_row(k, bucket.rows)[1] for k in rows])
        scores[-1, -1, -1] += self._off
        return scores


@pytest.mark.parametrize("bucket", [Bucket(300, 4), Bucket(1, 64)])
def test_a_wrong_score_in_any_row_and_tick_is_seen(bucket: Bucket) -> None:
    kept = expected.read()

    def error(order: int, off: float) -> float:
        return calls.error_of(Stored(kept, order, off), bucket, kept)  # type: ignore[arg-type]

    assert error(1, 0.0) == 0.0
    assert error(1, 0.01) == pytest.approx(0.01 / kept.scale, rel=1e-4)
    if bucket.rows > 1:
        assert error(-1, 0.0) > 0.1  # the rows in another order


def plane(name: str, **lines: list[tuple[str, float, str]]) -> SimpleNamespace:
    """Return a plane of a trace; an event is its name, its ns and one statistic."""
    return SimpleNamespace(
        name=name,
        lines=[
            SimpleNamespace(
                name=line.replace("_", " "),
                events=[
                    SimpleNamespace(name=event, duration_ns=ns, stats=[(stat, "x")])
                    for event, ns, stat in events
                ],
            )
            for line, events in lines.items()
        ],
    )


def test_a_devices_kernels_are_counted_once_and_a_hosts_only_without_a_device() -> None:
    host = plane(
        "/host:CPU", python=[("call", 9e3, "y")], pool=[("dot", 2e3, "hlo_op")]
    )
    events = [("gemm", 5e3, "hlo_op"), ("MemcpyD2H", 1e3, "bytes")]
    device = plane("/device:GPU:0", Stream_7=events, XLA_Ops=[("gemm", 5e3, "hlo_op")])
    assert [*trace.kernels([host])] == [("dot", 2.0)]
    assert [*trace.kernels([host, device])] == [("gemm", 5.0), ("MemcpyD2H", 1.0)]


def products_on_cuda(name: str) -> str:
    """Return a variant's program for CUDA, of 1,024 sessions, which is not compiled."""
    parameters = network.variables()
    shapes = jax.eval_shape(partial(fold, network.CONFIG), parameters)
    canary = Canary(*network.stream(0, 256), np.zeros(network.CONFIG.num_classes))
    served = network.servable(xla(network.CONFIG, shapes), parameters, canary)
    fresh = jax.eval_shape(served.fresh, np.float32(0.0))
    layout, bucket = RowLayout(fresh), Bucket(1024, 1)
    pool = jax.ShapeDtypeStruct((1025, layout.width), np.float32)
    words = np.zeros(packed_size(bucket, network.CONFIG.tick_events), np.int32)
    call = bucket_call(VARIANTS[name].servable(served), layout, bucket)
    lowered = call.trace(shapes, pool, words).lower(lowering_platforms=("cuda",))
    return lowered.as_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "factors", "passes"),
    [("tf32", "tf32", 1), ("tf32 x3", "tf32", 3), ("bf16", "bf16", 1)],
)
def test_a_variant_multiplies_on_cuda_as_its_name_says(
    name: str, factors: str, passes: int
) -> None:
    program = products_on_cuda(name)
    dots = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert dots
    for dot in dots:
        assert f"lhs_precision_type = {factors}" in dot
        assert f"num_primitive_operations = {passes}" in dot
    exact = products_on_cuda("highest")
    assert "precision_type" not in exact
    assert exact.count("HIGHEST") >= len(dots)


@pytest.mark.parametrize("lacking", ["jaxtyping", "websockets", "benchmarks.serve"])
def test_such_a_machine_lacks_what_the_next_test_does_without(lacking: str) -> None:
    command = [sys.executable, str(BARE), lacking]
    ran = subprocess.run(command, env=PATHS, capture_output=True, text=True)
    assert "ModuleNotFoundError" in ran.stderr


@pytest.mark.slow
def test_a_machine_with_few_packages_runs_it_and_prints_what_it_writes(
    tmp_path,
) -> None:
    path = tmp_path / "result.json"
    command = [sys.executable, str(BARE), "benchmarks.accelerator", "--quick"]
    ran = subprocess.run(
        [*command, "--limit-s", "600", "--json", str(path)],
        env=PATHS,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = json.loads(path.read_text())
    assert written["complete"]
    steps = {name: step["result"] for name, step in written["steps"].items()}
    assert steps.keys() == PLANNED_S.keys()
    buckets = {str(bucket) for bucket in QUICK.buckets}
    assert steps["scores"]["errors"].keys() == steps["speed"].keys() == buckets
    assert max(steps["scores"]["errors"].values()) <= expected.TOLERANCE
    assert {f"bucket {bucket}" for bucket in buckets} <= steps["compile"][
        "seconds"
    ].keys()
    for one in steps["speed"].values():
        assert one["host"]["p99_ms"] >= one["host"]["p50_ms"] > 0
        assert one["device"]["in_turn_ms"] > 0
    loads = steps["engine"]["loads"]
    assert [(one["sessions"], one["ticks"]) for one in loads] == [
        *((QUICK.slots, ticks) for ticks in QUICK.engine_ticks), (1, 1), (1, 16),
    ]  # fmt: skip
    assert all(one["events_per_s"] > 0 for one in loads)
    compared = steps["variants"][str(QUICK.compared[0])]
    assert compared.keys() == {"as served", *VARIANTS}
    assert steps["trace"][str(QUICK.compared[0])]["longest"]
    for name in steps:
        assert f"\n{name}, " in ran.stdout
