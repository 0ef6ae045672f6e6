"""The backend that a machine's own measurement chooses, and where it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from saccade.model import classifier
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights
from saccade.server.engine import backend_choice
from saccade.server.engine.backend_choice import Choice
from saccade.server.engine.compiled import check_canary, compile_all
from saccade.server.engine.loading import load_model, released
from saccade.server.engine.scheduler import Bucket
from tests.model.variants import random_variables, small

pytest.importorskip("numba", reason="without numba everything runs on XLA")
pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="the native kernels are for a CPU"
)
CONFIG = small(num_stages=1, num_layers_per_stage=1, pooling_stride=4)


def nothing() -> None:
    pass


def nothing_of(*_: Any) -> None:
    pass


def folded(config: ModelConfig) -> Weights:
    return classifier.fold(config, jax.tree.map(jnp.asarray, random_variables(config)))


def faster(config: ModelConfig, folder: Path, prepare: Any = nothing) -> bool:
    choice = Choice(config, lambda: folded(config), folder)
    return choice.native_is_faster(prepare)


def measure_as(patch: pytest.MonkeyPatch, *ratios: float) -> None:
    """Replace the measurement by these results, one a call and no more."""
    left = iter(ratios)
    patch.setattr(Choice, "_compare", lambda *_: next(left))
    patch.setattr(backend_choice, "_compile_on_xla", nothing_of)


@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_the_faster_backend_is_taken_and_the_next_process_need_not_measure(
    ratio: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, ratio)
    folder = tmp_path / "not made yet"
    assert [faster(CONFIG, folder) for _ in range(2)] == [ratio > 1.0] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"native_by_xla": "fast"}'])
def test_a_damaged_answer_is_replaced(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, 2.0, 0.5)
    assert faster(CONFIG, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(text)
    assert [faster(CONFIG, tmp_path) for _ in range(2)] == [False, False]
    assert list(tmp_path.iterdir()) == [kept]


def test_another_network_and_another_cpu_are_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.model.cpu_kernels import machine

    measure_as(monkeypatch, 2.0, 0.5, 0.5)
    other = small(num_stages=1, num_layers_per_stage=1, pooling_stride=8)
    assert faster(CONFIG, tmp_path)
    assert not faster(other, tmp_path)
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    assert not faster(CONFIG, tmp_path)


def test_where_nothing_can_be_kept_the_choice_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, 2.0)
    blocked = tmp_path / "a file"
    blocked.touch()
    assert faster(CONFIG, blocked / "folder")


@pytest.mark.slow
def test_a_measurement_runs_both_backends(tmp_path: Path) -> None:
    steps: list[int] = []
    first = faster(CONFIG, tmp_path, prepare=lambda: steps.append(1))
    assert steps == [1]
    assert faster(CONFIG, tmp_path) == first


@pytest.mark.slow
def test_a_model_runs_on_xla_where_that_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, 0.5)
    model = load_model(released()[0], kept=tmp_path)
    assert model.servable.prepare is not None
    pool_model = model.servable.prepare(lambda _: None)
    assert pool_model.advance_rows is None
    executables, rows = compile_all(pool_model, 1, (Bucket(1, 1),), lambda _: None)
    check_canary(pool_model, executables, rows)
