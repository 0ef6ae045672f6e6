"""The readout: a running mean of the last stage's outputs, one value a tick.

The reference averages over a whole recording. A camera runs for days, so the
accumulators are a mean and a total weight, never a growing sum, each kept with the
rounding error of its last additions (Kahan 1965): float32 alone stalls after 2^24.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from model.pooling import EPSILON_MS
from model.recurrence import run


class Readout(NamedTuple):
    """A session's readout accumulators.

    Attributes:
        mean: The weighted mean so far, (..., h); `mean_error` is what rounding lost.
        weight: The total weight so far, (...); `weight_error` likewise.
        half_life_ms: Sensor time in which a tick's weight halves; inf never forgets.
    """

    mean: Float[Array, "*b h"]
    mean_error: Float[Array, "*b h"]
    weight: Float[Array, "*b"]
    weight_error: Float[Array, "*b"]
    half_life_ms: Float[Array, "*b"]


class ReadoutRule(NamedTuple):
    """How a tick enters the mean.

    Attributes:
        numerator: dt_ms -> its weight in the sum.
        denominator: dt_ms -> its weight in the total.
        keeps_past: 1 to average, 0 to hold the newest tick only.
    """

    numerator: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    denominator: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    keeps_past: float


READOUTS: Final = {
    "pool": ReadoutRule(jnp.ones_like, jnp.ones_like, 1.0),
    # The reference adds epsilon above the fraction's bar and not below it.
    "timepool": ReadoutRule(lambda dt_ms: dt_ms + EPSILON_MS, jnp.asarray, 1.0),
    "last": ReadoutRule(jnp.ones_like, jnp.ones_like, 0.0),
}


def init_readout(features: int, half_life_ms: float) -> Readout:
    """Return the accumulators of a session that has seen nothing."""
    nothing = jnp.zeros(())
    return Readout(
        mean=jnp.zeros(features),
        mean_error=jnp.zeros(features),
        weight=nothing,
        weight_error=nothing,
        half_life_ms=nothing + half_life_ms,
    )


def accumulate(
    rule: ReadoutRule,
    readout: Readout,
    outputs: Float[Array, "*b k h"],
    dt_ms: Float[Array, "*b k"],
    valid: Bool[Array, "*b k"],
) -> tuple[Readout, Float[Array, "*b k h"]]:
    """Take in some ticks and return the mean after each of them.

    Args:
        rule: How ticks are weighed.
        readout: The accumulators before.
        outputs: The last stage's outputs, (..., k, h).
        dt_ms: Each tick's duration, (..., k), ms.
        valid: Which ticks are real; the others change nothing.
    """
    forget = jnp.exp2(-dt_ms / readout.half_life_ms[..., None]) * rule.keeps_past
    forget = jnp.where(valid, forget, 1.0)[..., None]
    above = jnp.where(valid, rule.numerator(dt_ms), 0.0)[..., None]
    below = jnp.where(valid, rule.denominator(dt_ms), 0.0)[..., None]
    entering = jnp.concatenate(
        [jnp.zeros_like(below), below, above, above * outputs], axis=-1
    )
    none_yet = jnp.zeros_like(entering[..., 0, :]).at[..., 0].set(1.0)
    sums = run(none_yet, forget, entering)
    kept, weight, share, total = jnp.split(sums, [1, 2, 3], axis=-1)
    old = readout.mean[..., None, :]
    old_weight = kept * readout.weight[..., None, None]
    new_weight = old_weight + weight
    timeless = new_weight == 0.0  # only simultaneous events so far
    step = (total - weight * old) / jnp.where(timeless, 1.0, new_weight)
    step = jnp.where(
        timeless & (share > 0), total / jnp.where(share > 0, share, 1.0) - old, step
    )
    means = old + (step + readout.mean_error[..., None, :])
    mean, mean_error = _two_sum(readout.mean, step[..., -1, :] + readout.mean_error)
    last_weight, weight_error = _two_sum(
        old_weight[..., -1, 0],
        weight[..., -1, 0] + kept[..., -1, 0] * readout.weight_error,
    )
    after = Readout(mean, mean_error, last_weight, weight_error, readout.half_life_ms)
    return after, means


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return fl(a + b) and the exact rounding error (Knuth 1969)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
