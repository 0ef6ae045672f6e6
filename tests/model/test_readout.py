"""The readout is the mean that it says it is, for ever."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.readout import READOUTS, Readout, accumulate, init_readout


def take(rule: str, readout: Readout, outputs: Any, dt_ms: Any) -> tuple[Readout, Any]:
    values = jnp.asarray(outputs, jnp.float32)
    gaps = jnp.asarray(dt_ms, jnp.float32)
    return accumulate(READOUTS[rule], readout, values, gaps, jnp.ones(gaps.shape, bool))


def test_pool_is_the_plain_mean_of_the_ticks() -> None:
    _, means = take("pool", init_readout(1, jnp.inf), [[1.0], [2.0], [6.0]], [5, 0, 1])
    assert np.allclose(means[:, 0], [1.0, 1.5, 3.0])


def test_timepool_weighs_a_tick_by_its_duration() -> None:
    _, means = take("timepool", init_readout(1, jnp.inf), [[1.0], [4.0]], [1.0, 3.0])
    assert np.allclose(means[:, 0], [1.0, 13 / 4], rtol=1e-5)


def test_timepool_of_simultaneous_events_is_their_plain_mean() -> None:
    _, means = take("timepool", init_readout(1, jnp.inf), [[1.0], [4.0]], [0.0, 0.0])
    assert np.allclose(means[:, 0], [1.0, 2.5])


def test_simultaneous_events_count_alike_however_they_are_cut() -> None:
    readout, _ = take("timepool", init_readout(1, jnp.inf), [[1.0]], [0.0])
    readout, means = take("timepool", readout, [[4.0]], [0.0])
    assert np.allclose(means[:, 0], [2.5])
    _, means = take("timepool", readout, [[7.0]], [0.0])
    assert np.allclose(means[:, 0], [4.0])


def test_last_keeps_the_newest_tick_only() -> None:
    readout, means = take("last", init_readout(1, jnp.inf), [[1.0], [4.0]], [1.0, 3.0])
    assert np.allclose(means[:, 0], [1.0, 4.0])
    assert np.allclose(readout.mean + readout.mean_error, [4.0])


def test_a_half_life_halves_the_weight_of_what_is_that_old() -> None:
    _, means = take("pool", init_readout(1, 10.0), [[0.0], [3.0]], [1.0, 10.0])
    assert np.allclose(means[:, 0], [0.0, 3.0 / 1.5])


@pytest.mark.parametrize("rule", ["pool", "timepool"])
@pytest.mark.parametrize("count", [2**24, 2**31])
def test_the_mean_does_not_stall_after_billions_of_ticks(rule: str, count: int) -> None:
    """Begin at a count that float32 cannot add 1 to, then add a million ticks.

    Truth is the same in float64.
    """
    ticks, tick_ms = 2**20, 1.0
    start = Readout(
        mean=jnp.asarray([1.0]),
        mean_error=jnp.zeros(1),
        weight=jnp.asarray(float(count)),
        weight_error=jnp.asarray(0.0),
        excess=jnp.asarray(0.0),
        half_life_ms=jnp.asarray(jnp.inf),
    )
    outputs = jnp.full((64, 1), 3.0)
    valid = jnp.ones(64, bool)
    gaps = jnp.full(64, tick_ms)

    @jax.jit
    def run(readout: Readout) -> Readout:
        def some(_: Any, value: Readout) -> Readout:
            return accumulate(READOUTS[rule], value, outputs, gaps, valid)[0]

        return jax.lax.fori_loop(0, ticks // 64, some, readout)

    after = run(start)
    truth = (count * 1.0 + ticks * 3.0) / (count + ticks)
    assert abs(float(after.mean[0]) - truth) <= 1e-4 * truth
    gained = float(after.weight) - count + float(after.weight_error)
    assert abs(gained - ticks) <= 1e-3 * ticks
    moved = (float(after.mean[0]) - 1.0) + float(after.mean_error[0])
    assert abs(moved - (truth - 1.0)) <= 1e-3 * (truth - 1.0)


def test_ticks_that_are_not_valid_change_nothing() -> None:
    before, _ = take("timepool", init_readout(2, 50.0), [[1.0, 2.0]], [3.0])
    after, means = accumulate(
        READOUTS["timepool"],
        before,
        jnp.full((3, 2), jnp.float32(9.0)),
        jnp.zeros(3),
        jnp.zeros(3, bool),
    )
    assert np.array_equal(after.mean, before.mean)
    assert np.array_equal(after.weight, before.weight)
    assert np.allclose(means, before.mean)
