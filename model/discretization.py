"""Discretization: from a continuous diagonal state matrix to what one event does.

Between two events the state decays by exp(ΛΔ·dt), in every variant. They differ in
the gain with which an event enters, which is split in two: a part that is the same
for every event (it is folded into B) and a part that depends on the event's gap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from saccade.model import split_complex
from saccade.model.array_types import States, Timescales
from saccade.model.split_complex import SplitComplex


class Discretization(NamedTuple):
    """The two factors of an event's gain.

    Attributes:
        input_gain: (Λ (p,), Δ (p,)) -> (p,), the same for every event.
        enter: (ΛΔ (p,), the event's own gap in ms, what it drives (..., p)) -> what
            then enters the state, (..., p).
    """

    input_gain: Callable[[States, Timescales], States]
    enter: Callable[[SplitComplex, Float[Array, "..."], SplitComplex], SplitComplex]


def _zoh_input_gain(Lambda: States, timescale: Timescales) -> States:
    return 1.0 / Lambda


def _enter_by_gap(
    rates: SplitComplex, dt_ms: Float[Array, "..."], drive: SplitComplex
) -> SplitComplex:
    return split_complex.times(split_complex.expm1(rates, dt_ms), drive)


def _asynchronous_input_gain(Lambda: States, timescale: Timescales) -> States:
    return jnp.expm1(Lambda * timescale) / Lambda


def _unit_input_gain(Lambda: States, timescale: Timescales) -> States:
    return jnp.ones_like(Lambda)


def enter_whole(
    rates: SplitComplex, dt_ms: Float[Array, "..."], drive: SplitComplex
) -> SplitComplex:
    """Enter as it drives, whatever the gap."""
    return drive


ZOH: Final = Discretization(_zoh_input_gain, _enter_by_gap)
"""Zero-order hold: an input acts during the whole gap, (exp(ΛΔ·dt) - 1)/Λ."""

DIRAC: Final = Discretization(_unit_input_gain, enter_whole)
"""Every event is an impulse of unit weight."""

ASYNC: Final = Discretization(_asynchronous_input_gain, enter_whole)
"""The state decays with elapsed time; the gain, (exp(ΛΔ) - 1)/Λ, does not depend on
it, so a burst of events is not damped. Schöne et al. 2024, arXiv:2404.18508."""

DISCRETIZATIONS: Final = {"zoh": ZOH, "dirac": DIRAC, "async": ASYNC}
