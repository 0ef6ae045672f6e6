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
from saccade.server.engine.backend_choice import measured
from tests.model.variants import random_variables, small

pytest.importorskip("numba", reason="without numba everything runs on XLA")
pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="the native kernels are for a CPU"
)
CONFIG = small(num_stages=1, num_layers_per_stage=1, pooling_stride=4)


def folded(config: ModelConfig) -> Weights:
    return classifier.fold(config, jax.tree.map(jnp.asarray, random_variables(config)))


def measure_as(patch: pytest.MonkeyPatch, *ratios: float) -> None:
    """Replace the measurement by these results, one a call and no more."""
    left = iter(ratios)
    patch.setattr(backend_choice, "compare", lambda *_: next(left))


@pytest.mark.parametrize(("ratio", "name"), [(0.9, "xla"), (1.1, "native")])
def test_the_faster_backend_is_taken_and_the_next_process_need_not_measure(
    ratio: float, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, ratio)
    folder, weights = tmp_path / "not made yet", folded(CONFIG)
    assert [measured(CONFIG, weights, folder).name for _ in range(2)] == [name] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"native_by_xla": "fast"}'])
def test_a_damaged_answer_is_replaced(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, 2.0, 0.5)
    weights = folded(CONFIG)
    measured(CONFIG, weights, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(text)
    for _ in range(2):
        assert measured(CONFIG, weights, tmp_path).name == "xla"
    assert list(tmp_path.iterdir()) == [kept]


def test_another_network_and_another_cpu_are_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.model.cpu_kernels import machine

    measure_as(monkeypatch, 2.0, 0.5, 0.5)
    other = small(num_stages=1, num_layers_per_stage=1, pooling_stride=8)
    assert measured(CONFIG, folded(CONFIG), tmp_path).name == "native"
    assert measured(other, folded(other), tmp_path).name == "xla"
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    assert measured(CONFIG, folded(CONFIG), tmp_path).name == "xla"


def test_where_nothing_can_be_kept_the_choice_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_as(monkeypatch, 2.0)
    blocked = tmp_path / "a file"
    blocked.touch()
    assert measured(CONFIG, folded(CONFIG), blocked / "folder").name == "native"


@pytest.mark.slow
def test_a_measurement_runs_both_backends(tmp_path: Path) -> None:
    steps: list[Any] = []
    weights = folded(CONFIG)
    name = measured(CONFIG, weights, tmp_path, prepare=lambda: steps.append(1)).name
    assert steps == [1]
    assert measured(CONFIG, weights, tmp_path).name == name
