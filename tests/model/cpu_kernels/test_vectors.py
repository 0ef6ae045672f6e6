"""The elementary functions and products of native code, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

pytest.importorskip("numba", reason="no native code without numba")

from saccade.model.cpu_kernels import functions, pointwise, recurrence
from saccade.model.cpu_kernels.matmul import in_strips, matmul
from saccade.model.cpu_kernels.vectors import (
    WIDTH,
    broadcast,
    called_from_python,
    load,
    load_partial,
    store,
    store_partial,
)

decays = called_from_python(recurrence.decays.py_func)
product = called_from_python(matmul.py_func)
layer_norm = called_from_python(pointwise.layer_norm.py_func)

EPSILON = 2.0**-24  # of a float32, half a unit in the last place


def at(array: np.ndarray[Any, Any]) -> int:
    """Return an array's address."""
    assert array.flags.c_contiguous
    return int(array.ctypes.data)


def of(function: Any) -> Any:
    """Return a function of vectors as a function of arrays."""

    @called_from_python
    def run(x: int, size: int, result: int) -> None:
        for v in range(0, size, WIDTH):
            store(result, v, function(load(x, v)))

    def apply(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        result = np.empty_like(x)
        run(at(x), x.size, at(result))
        return result.astype(np.float64)

    return apply


def linspace(low: float, high: float) -> np.ndarray[Any, Any]:
    return np.linspace(low, high, 1 << 16, dtype=np.float32)


def test_exp2_is_right_to_the_last_places_and_exact_at_0() -> None:
    exp2 = of(functions.exp2)
    x = linspace(-120.0, 120.0)
    exact = np.exp2(x.astype(np.float64))
    assert (np.abs(exp2(x) - exact) <= 6 * EPSILON * exact).all()
    assert (exp2(np.zeros(16, np.float32)) == 1.0).all()
    deep = exp2(np.full(16, -1e30, np.float32))
    assert (deep > 0.0).all()
    assert (deep < 1e-37).all()


def test_exp2m1_is_exact_where_it_is_small() -> None:
    exp2m1 = of(functions.exp2m1)
    for size in (1e-30, 1e-7, 1e-3, 0.4, 3.0, 20.0):
        x = linspace(-size, size)
        exact = np.expm1(np.log(2.0) * x.astype(np.float64))
        assert (np.abs(exp2m1(x) - exact) <= 8 * EPSILON * np.abs(exact)).all()


def test_the_activations_are_those_of_the_definition() -> None:
    x = linspace(-30.0, 30.0)
    wide = x.astype(np.float64)
    inner = np.sqrt(2.0 / np.pi) * (wide + 0.044715 * wide**3)
    exact = 0.5 * wide * (1.0 + np.tanh(inner))
    assert np.abs(of(functions.gelu)(x) - exact).max() <= 8 * EPSILON * 30.0
    exact = 1.0 / (1.0 + np.exp(-wide))
    assert np.abs(of(functions.sigmoid)(x) - exact).max() <= 8 * EPSILON


@given(st.floats(-2.0, 0.0), st.floats(-40.0, 40.0), st.floats(0.0, 30.0))
def test_a_decay_is_a_complex_exponential(real: float, imag: float, ms: float) -> None:
    rates = np.full((2, 16), [[real], [imag]], np.float32)
    gaps = np.asarray([ms], np.float32)
    left = np.empty((1, 32), np.float32)
    decays(at(gaps), 1, (at(rates), at(rates) + 64), 16, at(left))
    exponent = complex(*rates[:, 0].astype(np.float64)) * float(gaps[0])
    exact = np.exp(exponent)
    # A phase of many turns is known no better than its float32 is.
    allowed = 20 * EPSILON * (1.0 + abs(exponent)) * abs(exact) + 1e-37
    assert abs(complex(left[0, 0], left[0, 16]) - exact) <= allowed


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(0.0, 1.0))
def test_where_a_phase_is_small_fewer_operations_give_the_same_decay(
    real: float, imag: float, ms: float
) -> None:
    rates = np.full((2, 16), [[real], [imag]], np.float32)
    limits = [[functions.NEAR_DOUBLINGS], [functions.NEAR_TURNS]]
    rates *= np.asarray(limits, np.float32)
    few, full = np.empty((2, 2, 16), np.float32)
    decay_in_both_ways(at(rates), ms, at(few), at(full))
    assert np.abs(few - full).max() <= 6 * EPSILON
    if ms == 0.0:
        assert (few == full).all(), "a state is left bit for bit"


@called_from_python
def decay_in_both_ways(rates: int, ms: float, few: int, full: int) -> None:
    gap = broadcast(np.float32(ms))
    for v in range(0, 16, WIDTH):
        doublings, turns = load(rates, v), load(rates, 16 + v)
        a, b = functions.complex_exp_near(doublings, turns, gap)
        store(few, v, a)
        store(few, 16 + v, b)
        a, b = functions.complex_exp(doublings, turns, gap)
        store(full, v, a)
        store(full, 16 + v, b)


@given(st.integers(1, 21), st.integers(1, 40), st.integers(1, 17))
def test_a_product_is_the_same_to_the_last_bit_for_each_row_alone(
    rows: int, depth: int, vectors: int
) -> None:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, depth)).astype(np.float32)
    w = rng.normal(size=(depth, 16 * vectors)).astype(np.float32)
    together, alone = (np.empty((rows, 16 * vectors), np.float32) for _ in range(2))
    strips = in_strips(w)
    product(at(x), at(strips), at(together), rows, depth, 16 * vectors)
    exact = x.astype(np.float64) @ w
    scale = np.abs(x).astype(np.float64) @ np.abs(w)
    assert (np.abs(together - exact) <= depth * EPSILON * scale).all()
    for row in range(rows):
        product(at(x[row]), at(strips), at(alone[row]), 1, depth, 16 * vectors)
    assert together.tobytes() == alone.tobytes()


@given(st.integers(1, 3), st.integers(1, 33))
def test_a_layer_norm_ignores_the_padding(rows: int, width: int) -> None:
    filled = -(-width // 16) * 16
    rng = np.random.default_rng(width)
    x, scale, shift = (np.zeros((n, filled), np.float32) for n in (rows, 1, 1))
    for array in (x, scale, shift):
        array[:, :width] = rng.normal(size=(len(array), width))
    result = np.empty_like(x)
    layer_norm(at(x), at(scale), at(shift), rows, width, filled, at(result))
    part = x[:, :width].astype(np.float64)
    mean, variance = part.mean(1, keepdims=True), part.var(1, keepdims=True)
    exact = (part - mean) / np.sqrt(variance + 1e-6)
    exact = exact * scale[:, :width] + shift[:, :width]
    # With one feature the variance is a difference of equal numbers.
    assert np.abs(result[:, :width] - exact).max() <= (1e-5 if width > 2 else 1e-2)
    assert (result[:, width:] == 0.0).all()


@called_from_python
def copy_some(source: int, count: int, target: int) -> None:
    store_partial(
        target, 0, count, load_partial(source, 0, count) + broadcast(np.float32(1.0))
    )


@given(st.integers(0, WIDTH))
def test_a_partial_load_and_store_touch_no_other_numbers(count: int) -> None:
    source, target = np.arange(count, dtype=np.float32), np.zeros(20, np.float32)
    copy_some(at(source), count, at(target))
    assert np.array_equal(target[:count], source + 1.0)
    assert (target[count:] == 0.0).all()
