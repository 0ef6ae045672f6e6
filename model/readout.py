"""The readout: a running mean of the last stage's outputs, one value a tick.

The reference averages over a whole recording. A camera runs for days, so the
accumulators are a mean and a total weight instead of a growing sum. Each is kept with
the rounding error of its last additions (Kahan 1965): float32 alone stalls after 2^24.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import jax.numpy as jnp

from saccade.model.array_types import Array, Bool, Float
from saccade.model.config import ReadoutName
from saccade.model.linear_recurrence import linear_scan
from saccade.model.pooling import EPSILON_MS


class Readout(NamedTuple):
    """A session's readout accumulators.

    Attributes:
        mean: The weighted mean so far, (..., h).
        mean_error: The rounding error of `mean`, (..., h).
        weight: The total weight so far, (...).
        weight_error: The rounding error of `weight`, (...).
        excess: By how much the weights in the mean exceed that total, (...): the
            reference adds epsilon to each tick's weight in the numerator alone.
        half_life_ms: Sensor time in which a tick's weight halves; inf keeps all.
    """

    mean: Float[Array, "*b h"]
    mean_error: Float[Array, "*b h"]
    weight: Float[Array, "*b"]
    weight_error: Float[Array, "*b"]
    excess: Float[Array, "*b"]
    half_life_ms: Float[Array, "*b"]


class ReadoutRule(NamedTuple):
    """A tick's weight in the mean.

    Attributes:
        weight: A tick's duration, ms -> its weight in the total.
        excess: Added to that weight in the weighted sum.
        keeps_past: 1 to average, 0 to keep the newest tick only.
    """

    weight: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    excess: float
    keeps_past: float


READOUTS: Final[dict[ReadoutName, ReadoutRule]] = {
    "pool": ReadoutRule(jnp.ones_like, 0.0, 1.0),
    "timepool": ReadoutRule(jnp.asarray, EPSILON_MS, 1.0),
    "last": ReadoutRule(jnp.ones_like, 0.0, 0.0),
}


def init_readout(features: int, half_life_ms: float | Float[Array, ""]) -> Readout:
    """Return the accumulators of a new session, no slot axis."""
    zero = jnp.zeros(())
    return Readout(
        mean=jnp.zeros(features),
        mean_error=jnp.zeros(features),
        weight=zero,
        weight_error=zero,
        excess=zero,
        half_life_ms=zero + half_life_ms,
    )


def accumulate(
    rule: ReadoutRule,
    readout: Readout,
    outputs: Float[Array, "*b k h"],
    dt_ms: Float[Array, "*b k"],
    valid: Bool[Array, "*b k"],
) -> tuple[Readout, Float[Array, "*b k h"]]:
    """Add k ticks to the mean; return the accumulators and the mean after each tick.

    Args:
        rule: The ticks' weights.
        readout: The accumulators before.
        outputs: The last stage's outputs, (..., k, h).
        dt_ms: Each tick's duration, (..., k), ms.
        valid: Which ticks exist; the others change nothing.
    """
    new = _sums(rule, readout.half_life_ms, outputs, dt_ms, valid)
    share = new.weight + new.excess
    old_weight = new.kept * readout.weight[..., None, None]
    weights = old_weight + new.weight
    excesses = new.kept * readout.excess[..., None, None] + new.excess
    shares = weights + excesses
    old = readout.mean[..., None, :]
    step = (new.total - share * old) / jnp.where(shares > 0.0, shares, 1.0)
    means = old + (step + readout.mean_error[..., None, :])
    mean, mean_error = _two_sum(readout.mean, step[..., -1, :] + readout.mean_error)
    last_weight, weight_error = _two_sum(
        old_weight[..., -1, 0],
        new.weight[..., -1, 0] + new.kept[..., -1, 0] * readout.weight_error,
    )
    after = Readout(
        mean,
        mean_error,
        last_weight,
        weight_error,
        excesses[..., -1, 0],
        readout.half_life_ms,
    )
    # Where all events so far are simultaneous, their weights are equal.
    return after, means * jnp.where(weights > 0.0, shares / weights, 1.0)


class _Sums(NamedTuple):
    """Sums over the call's ticks, up to and including each of them.

    Attributes:
        kept: Factor on the sums from before the call, (..., k, 1).
        weight: Sum of the weights, (..., k, 1).
        excess: Sum of the excesses, (..., k, 1).
        total: Weighted sum of the outputs, (..., k, h).
    """

    kept: Float[Array, "*b k 1"]
    weight: Float[Array, "*b k 1"]
    excess: Float[Array, "*b k 1"]
    total: Float[Array, "*b k h"]


def _sums(
    rule: ReadoutRule,
    half_life_ms: Float[Array, "*b"],
    outputs: Float[Array, "*b k h"],
    dt_ms: Float[Array, "*b k"],
    valid: Bool[Array, "*b k"],
) -> _Sums:
    forget = jnp.exp2(-dt_ms / half_life_ms[..., None]) * rule.keeps_past
    forget = jnp.where(valid, forget, 1.0)[..., None]
    weight = jnp.where(valid, rule.weight(dt_ms), 0.0)[..., None]
    excess = jnp.where(valid, rule.excess, 0.0)[..., None]
    entering = jnp.concatenate(
        [jnp.zeros_like(weight), weight, excess, (weight + excess) * outputs], axis=-1
    )
    start = jnp.zeros_like(entering[..., 0, :]).at[..., 0].set(1.0)
    sums = linear_scan(start, forget, entering, jnp.multiply)
    return _Sums(*jnp.split(sums, [1, 2, 3], axis=-1))


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return fl(a + b) and the exact rounding error (Knuth 1969)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
