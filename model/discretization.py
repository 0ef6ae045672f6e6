"""Discretization: from a continuous diagonal state matrix to one event's effect.

Between two events the state decays by exp(ΛΔ·dt), in every variant. The variants
differ in the gain with which an event enters. The gain has two factors: one that is the
same for every event (it is folded into B) and one that depends on the event's gap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import jax.numpy as jnp

from saccade.model import split_complex
from saccade.model.array_types import Array, Complex, Float
from saccade.model.config import DiscretizationName
from saccade.model.split_complex import SplitComplex

States = Complex[Array, "... p"]
Timescales = Float[Array, "... p"]


class Discretization(NamedTuple):
    """The two factors of an event's gain.

    Attributes:
        input_gain: (Λ (p,), Δ (p,)) -> (p,), the same for every event.
        enter: (ΛΔ (p,), the event's gap in ms, the event's drive (..., p)) -> its
            contribution to the state, (..., p).
    """

    input_gain: Callable[[States, Timescales], States]
    enter: Callable[[SplitComplex, Float[Array, "..."], SplitComplex], SplitComplex]


def enter_whole(
    rates: SplitComplex, dt_ms: Float[Array, "..."], drive: SplitComplex
) -> SplitComplex:
    """Return the drive unchanged: the gap has no influence."""
    return drive


def enter_held(
    rates: SplitComplex, dt_ms: Float[Array, "..."], drive: SplitComplex
) -> SplitComplex:
    """Return the drive held during the whole gap, (exp(ΛΔ·dt) - 1)·drive."""
    return split_complex.multiply(split_complex.expm1(rates, dt_ms), drive)


def _zoh_input_gain(Lambda: States, timescale: Timescales) -> States:
    return 1.0 / Lambda


def _asynchronous_input_gain(Lambda: States, timescale: Timescales) -> States:
    return jnp.expm1(Lambda * timescale) / Lambda


def _unit_input_gain(Lambda: States, timescale: Timescales) -> States:
    return jnp.ones_like(Lambda)


ZOH: Final = Discretization(_zoh_input_gain, enter_held)
"""Zero-order hold: an input acts during the whole gap, (exp(ΛΔ·dt) - 1)/Λ."""

DIRAC: Final = Discretization(_unit_input_gain, enter_whole)
"""Every event is an impulse of unit weight."""

ASYNC: Final = Discretization(_asynchronous_input_gain, enter_whole)
"""The state decays with elapsed time; the gain, (exp(ΛΔ) - 1)/Λ, does not depend on
it, so a burst of events is not damped. Schöne et al. 2024, arXiv:2404.18508."""

DISCRETIZATIONS: Final[dict[DiscretizationName, Discretization]] = {
    "zoh": ZOH,
    "dirac": DIRAC,
    "async": ASYNC,
}
