"""Discretization: from a continuous diagonal state matrix to what one event does.

Between two events the state decays by exp(ΛΔ·dt), in every variant. They differ in
the gain with which an event enters, which is split in two: a part that is the same
for every event (it can be folded into B) and a part that depends on the event's gap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import jax.numpy as jnp

from model.array_types import Factor, States, Timescales


class Discretization(NamedTuple):
    """The two factors of an event's gain.

    Attributes:
        input_gain: (Λ (p,), Δ (p,)) -> (p,), the same for every event.
        event_gain: ΛΔ·dt (..., p) of the event's own gap -> broadcastable factor.
    """

    input_gain: Callable[[States, Timescales], States]
    event_gain: Callable[[States], Factor]


def _zoh_input_gain(Lambda: States, timescale: Timescales) -> States:
    return 1.0 / Lambda


def _zoh_event_gain(exponent: States) -> Factor:
    return jnp.expm1(exponent)


def _asynchronous_input_gain(Lambda: States, timescale: Timescales) -> States:
    return jnp.expm1(Lambda * timescale) / Lambda


def _unit_input_gain(Lambda: States, timescale: Timescales) -> States:
    return jnp.ones_like(Lambda)


def _unit_event_gain(exponent: States) -> Factor:
    return jnp.ones((1,) * exponent.ndim, exponent.dtype)


ZOH: Final = Discretization(_zoh_input_gain, _zoh_event_gain)
"""Zero-order hold: an input acts during the whole gap, (exp(ΛΔ·dt) - 1)/Λ."""

DIRAC: Final = Discretization(_unit_input_gain, _unit_event_gain)
"""Every event is an impulse of unit weight."""

ASYNC: Final = Discretization(_asynchronous_input_gain, _unit_event_gain)
"""The state decays with elapsed time; the gain, (exp(ΛΔ) - 1)/Λ, does not depend on
it, so a burst of events is not damped. Schöne et al. 2024, arXiv:2404.18508."""

DISCRETIZATIONS: Final = {"zoh": ZOH, "dirac": DIRAC, "async": ASYNC}
