"""The backend that a machine's own measurement chooses, and where it is kept."""

from __future__ import annotations

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from saccade.checkpoints import released
from saccade.model import classifier
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights
from saccade.server.engine import backend_choice
from saccade.server.engine.backend_choice import kept_ratio, measure
from saccade.server.engine.compiled import check_canary, compile_all
from saccade.server.engine.loading import load_model
from saccade.server.engine.measuring import measure_beside
from saccade.server.engine.scheduler import Bucket
from saccade.server.settings import cache_folder
from tests.model.variants import random_variables, small

pytest.importorskip("numba", reason="without numba everything runs on XLA")
pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="the native kernels are for a CPU"
)
CONFIG = small(num_stages=1, num_layers_per_stage=1, pooling_stride=4)


def folded(config: ModelConfig) -> Weights:
    return classifier.fold(config, jax.tree.map(jnp.asarray, random_variables(config)))


def find(patch: pytest.MonkeyPatch, ratio: float) -> None:
    """Replace the measurement by a result."""
    patch.setattr(backend_choice, "_compile_on_xla", lambda *_: (CONFIG, None, [()]))
    patch.setattr(backend_choice, "native", lambda *_: "ours")
    patch.setattr(backend_choice, "_calls", lambda *_: [()])
    patch.setattr(backend_choice, "_ratio", lambda *_: ratio)


def measured(config: ModelConfig, folder: Path) -> float:
    return measure(config, folded(config), folder)


def test_what_was_measured_is_kept_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, 0.9)
    folder = tmp_path / "not made yet"
    assert kept_ratio(CONFIG, folder) is None
    assert measured(CONFIG, folder) == pytest.approx(0.9)
    assert kept_ratio(CONFIG, folder) == pytest.approx(0.9)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"native_by_xla": "fast"}'])
def test_a_damaged_answer_is_none_and_is_replaced(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, 2.0)
    measured(CONFIG, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(text)
    assert kept_ratio(CONFIG, tmp_path) is None
    measured(CONFIG, tmp_path)
    assert kept_ratio(CONFIG, tmp_path) == pytest.approx(2.0)
    assert list(tmp_path.iterdir()) == [kept]


def test_another_network_and_another_cpu_are_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.model.cpu_kernels import machine

    find(monkeypatch, 2.0)
    measured(CONFIG, tmp_path)
    other = small(num_stages=1, num_layers_per_stage=1, pooling_stride=8)
    assert kept_ratio(other, tmp_path) is None
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    assert kept_ratio(CONFIG, tmp_path) is None


def test_where_nothing_can_be_kept_the_measurement_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, 2.0)
    blocked = tmp_path / "a file"
    blocked.touch()
    assert measured(CONFIG, blocked / "folder") == pytest.approx(2.0)
    assert kept_ratio(CONFIG, blocked / "folder") is None


@pytest.mark.slow
def test_a_model_is_measured_beside_the_server_and_runs_on_xla_where_that_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache_folder() / "native"))
    model = load_model(released()[0], kept=tmp_path)
    assert not model.measured
    assert model.servable.prepare is not None
    model.servable.prepare(lambda _: None)
    measure_beside([model], tmp_path)
    while not (kept := [*tmp_path.glob("backend-*.json")]):
        time.sleep(0.1)
    assert load_model(released()[0], kept=tmp_path).measured
    kept[0].write_text('{"native_by_xla": 0.5}')
    on_xla = load_model(released()[0], kept=tmp_path)
    assert on_xla.measured
    assert on_xla.servable.advance_rows is None
    executables, rows = compile_all(on_xla.servable, 1, (Bucket(1, 1),), lambda _: None)
    check_canary(on_xla.servable, executables, rows)
