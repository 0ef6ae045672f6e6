"""The engine benchmark compares like with like, and reports its measurements."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.baseline import CONFIGURATIONS, score_windows
from benchmarks.bound import Ceilings, Work, bound, work
from benchmarks.cases import BASELINE, Model, Shape, all_shapes, cases, draw
from benchmarks.engine import measure
from benchmarks.instructions import instructions
from benchmarks.readiness import Readiness
from benchmarks.report import Report, plot, tables, to_json
from benchmarks.timing import interleave
from saccade.model.classifier import scan
from saccade.model.config import ModelConfig
from tests.model.variants import random_variables


def reduced(name: str) -> ModelConfig:
    """Return a small network of a published one's kind."""
    return replace(
        CONFIGURATIONS[name],
        num_embeddings=50,
        d_model=8,
        d_ssm=8,
        ssm_block_size=4,
        num_layers_per_stage=2,
        pooling_stride=4,
    )


@pytest.fixture(scope="module")
def model() -> Model:
    return draw(reduced("dvs/small"))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_baseline_scores_a_window_as_the_model_does(name: str) -> None:
    config = reduced(name)
    variables = random_variables(config)
    rng = np.random.default_rng(3)
    events = 4 * config.tick_events
    tokens = jnp.asarray(rng.integers(50, size=(2, events)), jnp.int32)
    dt_ms = jnp.asarray(rng.exponential(0.01, size=(2, events)), jnp.float32)
    score = jax.jit(score_windows, static_argnums=0)
    whole = jax.jit(scan, static_argnums=0)
    baseline = score(config, variables, tokens, dt_ms)
    for row in range(2):
        ours = whole(config, variables, tokens[row], dt_ms[row])
        scale = float(jnp.abs(ours).max())
        assert jnp.abs(baseline[row] - ours).max() < 1e-4 * scale


def test_cases_take_turns_so_that_a_noisy_moment_hits_all_of_them() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    taken = interleave(calls, budget_s=0.0, burst_s=0.0)
    assert order == list("ab") + list("aabb") * 5
    assert all(seconds.size == 5 for seconds in taken.values())


def test_one_stream_and_up_to_1024_sessions_are_measured() -> None:
    shapes = all_shapes(256)
    assert shapes[:3] == [Shape(1, 1), Shape(1, 16), Shape(1, 256)]
    assert {(rows, ticks) for rows, ticks in shapes if rows > 1} == {
        (rows, ticks) for rows in (8, 64, 256, 1024) for ticks in (1, 16)
    }
    assert len({shape.name(256) for shape in shapes}) == len(shapes)


def test_an_event_costs_the_products_that_are_left_after_folding(model: Model) -> None:
    """8 features and 8 states in the first stage, 16 of each in the second."""
    narrow = 2 * 16 * 8 + 2 * 8 * 8  # C and the gate
    widening = 2 * 32 * 16 + 2 * 16 * 16 + 2 * (2 * 8 * 16)  # and a wide D and skip
    wide = 2 * 32 * 16 + 2 * 16 * 16
    first = (narrow + (narrow + 2 * 8 * 16)) / 4
    second = 2 * 8 * 32 / 4 + (widening + (wide + 2 * 16 * 32)) / 16
    decoder = 2 * 16 * model.config.num_classes / 16
    assert work(model).flops == first + second + decoder


def test_the_bound_is_the_slowest_of_the_machines_ceilings(model: Model) -> None:
    cost = work(model)
    fast = Ceilings(*(part * 1e6 for part in cost))
    assert bound(model, fast).events_per_second == pytest.approx(1e6)
    for field in Work._fields:
        slow = fast._replace(**{field: getattr(fast, field) / 2})
        assert bound(model, slow).events_per_second == pytest.approx(5e5)


def test_a_report_holds_a_row_a_case_and_can_be_drawn(model: Model, tmp_path) -> None:
    ceilings = Ceilings(1e9, 1e9, 1e9)
    limit = bound(model, ceilings)
    measured = cases(model, [Shape(3, 2)])
    rows = measure("small", measured, limit, budget_s=0.0)
    starts = [Readiness("small", "cold", 1.0)]
    report = Report(instructions(), ceilings, {"small": limit}, rows, starts)
    assert (
        json.loads(to_json(report))["instructions"]["name"] == report.instructions.name
    )
    written = json.loads(to_json(report))["cases"]
    assert [row["case"] for row in written] == [
        BASELINE,
        "3 sessions, 2 ticks each",
    ]
    assert written[0]["ratio"] == 1.0
    for row in written:
        rate = row["events_per_second"]
        assert rate > 0
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["bound_fraction"] == pytest.approx(rate / limit.events_per_second)
    plot(report, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
    assert [table.row_count for table in tables(report)] == [3, 2, 1]
