"""The choices of a configuration, and the backend that runs a network."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model import classifier
from saccade.model.backends import BACKENDS, fastest
from saccade.model.config import (
    DiscretizationName,
    ModelConfig,
    PoolingName,
    ReadoutName,
)
from saccade.model.discretization import DISCRETIZATIONS, Discretization, enter_whole
from saccade.model.pooling import POOLINGS
from saccade.model.precision import PRECISIONS, SERVING_PRECISIONS, PrecisionName
from saccade.model.readout import READOUTS, ReadoutRule
from saccade.model.tokens import SCHEMES, Scheme
from saccade.server.engine.compiled import CANARY_TOLERANCES
from saccade.server.settings import MatmulPrecision, Settings
from tests.model.variants import random_variables, small

SESSIONS, TICKS = 3, 4
TINY = {"num_stages": 1, "num_layers_per_stage": 1, "pooling_stride": 4}

needs_kernels = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="the native kernels are for a CPU"
)


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (DiscretizationName, DISCRETIZATIONS),
        (PoolingName, POOLINGS),
        (ReadoutName, READOUTS),
        (get_type_hints(Settings)["execution"], BACKENDS),
        (PrecisionName, PRECISIONS),
        (MatmulPrecision, SERVING_PRECISIONS),
        (MatmulPrecision, CANARY_TOLERANCES),
        (Scheme, SCHEMES),
    ],
    ids=[
        *("discretization", "pooling", "readout", "backend", "precision"),
        *("matmul precision", "tolerance", "scheme"),
    ],
)
def test_the_names_of_a_choice_are_the_keys_of_its_table(
    names: Any, table: Any
) -> None:
    assert set(get_args(names)) == set(table)


def made_up(
    patch: pytest.MonkeyPatch, setting: str, table: Any, name: str, rule: Any
) -> ModelConfig:
    """Register a rule under a new name; return a configuration that names it."""
    patch.setitem(table, name, rule)
    config = small(**TINY)
    object.__setattr__(config, setting, name)  # the Literal does not have the name
    return config


def check_scores(config: ModelConfig) -> str:
    """Hold the fastest backend's scores equal to `scan`'s; return its name."""
    variables = jax.tree.map(jnp.asarray, random_variables(config))
    backend = fastest(config, classifier.fold(config, variables))
    rng = np.random.default_rng(0)
    shape = (SESSIONS, TICKS * config.tick_events)
    tokens = rng.integers(config.num_embeddings, size=shape, dtype=np.int32)
    dt_ms = rng.exponential(1.0, shape).astype(np.float32)
    fresh = classifier.init_carry(config, variables)
    carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * SESSIONS), fresh)
    move = jax.jit(partial(backend.advance, config))
    _, logits = move(backend.weights, carry, tokens, dt_ms, np.full(SESSIONS, TICKS))
    assert np.isfinite(logits).all()
    scan = jax.jit(partial(classifier.scan, config))
    for row in range(SESSIONS):
        truth = np.asarray(scan(variables, tokens[row], dt_ms[row]))
        assert np.abs(logits[row, -1] - truth).max() <= 2e-5 * np.abs(truth).max()
    return backend.name


def damped(rates: Any, dt_ms: Any, drive: Any) -> Any:
    return jax.tree.map(lambda part: part / (1.0 + dt_ms), drive)


def unit_gain(Lambda: Any, timescale: Any) -> Any:
    return jnp.ones_like(Lambda)


def double_gain(Lambda: Any, timescale: Any) -> Any:
    return jnp.full_like(Lambda, 2.0)


@needs_kernels
@pytest.mark.parametrize(
    ("setting", "table", "rule"),
    [
        ("discretization", DISCRETIZATIONS, Discretization(unit_gain, damped)),
        ("pooling_mode", POOLINGS, lambda dt_ms, position: dt_ms * dt_ms + 1.0),
        ("classification_mode", READOUTS, ReadoutRule(jnp.square, 0.0, 1.0)),
    ],
    ids=["discretization", "pooling", "readout"],
)
def test_a_rule_that_the_kernels_do_not_implement_runs_on_xla(
    setting: str, table: Any, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="without numba everything runs on XLA")
    config = made_up(monkeypatch, setting, table, f"made-up {setting}", rule)
    with pytest.warns(UserWarning, match=f"do not implement {setting} 'made-up"):
        assert check_scores(config) == "xla"


@needs_kernels
def test_a_discretization_whose_gain_alone_is_new_runs_on_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gain is folded into B."""
    pytest.importorskip("numba", reason="no native code without numba")
    rule = Discretization(double_gain, enter_whole)
    config = made_up(monkeypatch, "discretization", DISCRETIZATIONS, "doubled", rule)
    assert check_scores(config) == "native"


@needs_kernels
def test_a_setting_that_the_kernels_do_not_know_is_unsupported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba", reason="no native code without numba")
    from saccade.model.cpu_kernels import choices

    assert choices.unsupported(small()) == ""
    monkeypatch.setattr(choices, "_SETTINGS", choices._SETTINGS - {"prenorm"})
    assert choices.unsupported(small()) == "the kernels do not know the setting prenorm"
