"""Products that serve are float32's on every device, and the canary would notice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.checkpoints import released
from saccade.model import classifier, inference
from saccade.model.backends import xla
from saccade.model.checkpoint import load
from saccade.model.precision import (
    FLOAT32,
    SERVING_PRECISIONS,
    SPLIT_ROWS,
    Precision,
    multiply_exactly,
)
from saccade.server.engine.compiled import compile_all, play_canary
from saccade.server.engine.errors import CanaryMismatch
from saccade.server.engine.health import CanaryResult
from saccade.server.engine.loading import load_model, load_models
from saccade.server.engine.scheduler import Bucket
from tests.model.hlo import EXACT_LOWERED
from tests.model.variants import VARIANTS, compiled

variant = pytest.mark.parametrize("index", range(len(VARIANTS)))


def products(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """Return the matrix products of a function's program for CUDA."""
    traced = jax.jit(function).trace(*arguments)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return [line.strip() for line in text.splitlines() if "dot_general" in line]


def inexact(found: list[str]) -> list[str]:
    assert found, "a network without a product"
    return [line for line in found if not EXACT_LOWERED.search(line)]


def advancing(index: int, rows: int, precision: Precision = FLOAT32) -> list[str]:
    of = compiled(index)
    size = (rows, of.config.tick_events)
    carry = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), of.fresh.carry
    )
    batch = np.zeros(size, np.int32), np.zeros(size, np.float32), np.ones(rows, int)
    move = partial(xla(of.config, of.weights, precision).advance, of.config)
    return products(move, of.weights, carry, *batch)


@variant
@pytest.mark.parametrize("rows", [1, SPLIT_ROWS])
def test_every_product_of_a_bucket_is_exact(index: int, rows: int) -> None:
    assert inexact(advancing(index, rows)) == []


def test_whichever_thread_compiles_a_bucket_its_products_are_the_same() -> None:
    with jax.default_matmul_precision("bfloat16"), ThreadPoolExecutor(1) as threads:
        here = advancing(0, 1)
        assert threads.submit(advancing, 0, 1).result() == here
    assert inexact(here) == []


@variant
def test_so_is_every_product_of_a_step_of_folding_and_of_a_whole_sequence(
    index: int,
) -> None:
    of = compiled(index)
    token, gap = jnp.int32(0), jnp.float32(1.0)
    step = partial(inference.step, of.config)
    assert inexact(products(step, of.weights, of.fresh, token, gap)) == []
    fold = partial(classifier.Classifier(of.config).apply, method="fold")
    assert inexact(products(fold, of.variables)) == []
    events = 2 * of.config.tick_events
    stream = jnp.zeros(events, jnp.int32), jnp.ones(events)
    scan = partial(classifier.scan, of.config)
    assert inexact(products(scan, of.variables, *stream)) == []


@pytest.mark.parametrize("name", ["tf32", "bfloat16"])
def test_less_than_float32_is_a_choice_that_shows_in_the_program(name: str) -> None:
    assert inexact(advancing(0, 2, SERVING_PRECISIONS[name]))


@pytest.mark.parametrize("rows", [3, SPLIT_ROWS])
def test_on_a_cpu_products_are_the_same_to_the_last_bit_as_by_default(
    rows: int,
) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(rows, 128)), jnp.float32)
    matrix = jnp.asarray(rng.normal(size=(128, 96)), jnp.float32)
    plain = np.asarray(jax.jit(jnp.matmul)(x, matrix))
    for precision in SERVING_PRECISIONS.values():
        found = np.asarray(jax.jit(precision.multiply)(x, matrix))
        assert found.tobytes() == plain.tobytes()


def test_double_precision_stays_double() -> None:
    with jax.enable_x64(True):
        x = jnp.full((SPLIT_ROWS, 2), 1.0 + 1e-12)
        found = multiply_exactly(x, jnp.ones((2, 1)))
        assert found.dtype == jnp.float64
        assert float(found[0, 0]) == 2.0 + 2e-12


def rounded(x: Any) -> Any:
    """Round to the 10 bits that a TF32 factor has."""
    return jax.lax.reduce_precision(x, 8, 10)


def emulate_tf32(x: Any, matrix: Any) -> Any:
    return jnp.matmul(rounded(x), rounded(matrix))


def emulate_split(x: Any, matrix: Any) -> Any:
    upper, other = rounded(x), rounded(matrix)
    lower, rest = rounded(x - upper), rounded(matrix - other)
    small = jnp.matmul(lower, other) + jnp.matmul(upper, rest)
    return small + jnp.matmul(upper, other)


def canary_of(multiply: Callable[..., Any], declared: str = "float32") -> CanaryResult:
    """Play a released model's canary with such products in its bucket."""
    config = load(released()[0]).manifest.config
    model = load_model(released()[0], "xla").servable
    precision = Precision(multiply, lambda x: x)
    move = partial(inference.advance_in, precision)
    servable = model._replace(advance=partial(move, config), matmul_precision=declared)
    calls, pool = compile_all(servable, 1, (Bucket(1, 1),), lambda _: None)
    return play_canary(servable, calls, pool)[1]


@pytest.mark.slow
def test_a_device_that_multiplies_in_tf32_misses_the_canary() -> None:
    with pytest.raises(CanaryMismatch, match="more than float32 may") as refusal:
        canary_of(emulate_tf32)
    assert refusal.value.error > 1e-4
    chosen = canary_of(emulate_tf32, "tf32")
    assert chosen == CanaryResult("tf32", refusal.value.error)


@pytest.mark.slow
def test_three_products_of_tf32_are_as_good_as_float32() -> None:
    assert canary_of(emulate_split).error <= 1e-5


def test_a_precision_for_a_model_that_is_not_served_is_refused_in_words() -> None:
    path = released()[0]
    with pytest.raises(ValueError, match="a precision is for 'none'; the models are"):
        load_models([path], precisions={"none": "tf32"})
    (model,) = load_models([path], precisions={"": "tf32"})
    assert model.servable.matmul_precision == "tf32"
    (model,) = load_models([path], precisions={"": "tf32", model.name: "float32"})
    assert model.servable.matmul_precision == "float32"
