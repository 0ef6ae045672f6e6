"""The linear recurrence x[k] = exp(r·dt[k])·x[k-1] + v[k], in stride groups.

Only one state in a stride group is ever read: the one after the group's first token.
So a group is summed in closed form, with weights exp(r·(time left in the group)), and
the recurrence proper runs from group to group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Inexact

from model.array_types import Factor, States


class Groups(NamedTuple):
    """What each stride group does to the state.

    Attributes:
        decay: exp(r·T) over the group's whole duration T, (..., g, p).
        drive: What the group adds to the state at its end, (..., g, p).
        first_decay: Decay over the first token's own gap, (..., g, p).
        first_drive: What the first token adds, (..., g, p).
    """

    decay: Complex[Array, "*b g p"]
    drive: Complex[Array, "*b g p"]
    first_decay: Complex[Array, "*b g p"]
    first_drive: Complex[Array, "*b g p"]


def summarize(
    rates: States,
    drive: Complex[Array, "*b g n p"],
    dt_ms: Float[Array, "*b g n"],
    event_gain: Callable[[States], Factor],
) -> Groups:
    """Sum every stride group in closed form.

    Args:
        rates: r = ΛΔ, (p,), 1/ms.
        drive: Projected inputs, (..., g, n, p), without the event's own gain.
        dt_ms: The gap before each token, (..., g, n), ms.
        event_gain: The gain's part that depends on r·dt of the token's own gap.
    """
    # Summed from the end: a difference of sums from the beginning would lose the
    # gaps that follow one of hours.
    onwards_ms = jax.lax.cumsum(dt_ms, axis=dt_ms.ndim - 1, reverse=True)
    left_ms = jnp.concatenate(
        [onwards_ms[..., 1:], jnp.zeros_like(dt_ms[..., :1])], axis=-1
    )
    gained = event_gain(rates * dt_ms[..., None]) * drive
    weights = jnp.exp(rates * left_ms[..., None])
    return Groups(
        decay=jnp.exp(rates * onwards_ms[..., :1]),
        drive=jnp.sum(weights * gained, axis=-2),
        first_decay=jnp.exp(rates * dt_ms[..., :1]),
        first_drive=gained[..., 0, :],
    )


def scan(
    state: Complex[Array, "*b p"], groups: Groups
) -> tuple[Complex[Array, "*b p"], Complex[Array, "*b g p"]]:
    """Run from group to group.

    Args:
        state: The state before the first group, (..., p).
        groups: At least one group.

    Returns:
        The state after the last group, and the state after the first token of each
        group, (..., g, p).
    """
    after = run(state, groups.decay, groups.drive)
    before = jnp.concatenate([state[..., None, :], after[..., :-1, :]], axis=-2)
    return after[..., -1, :], groups.first_decay * before + groups.first_drive


def run(
    state: Inexact[Array, "*b p"],
    decay: Inexact[Array, "*b g _"],
    drive: Inexact[Array, "*b g p"],
) -> Inexact[Array, "*b g p"]:
    """Return every x[k] = decay[k]·x[k-1] + drive[k], from x[-1] = state.

    A CPU goes step by step: it has no lanes to spare, and the program is small. An
    accelerator pays dearly for each step of a loop, so there it is a tree.
    """
    if drive.shape[-2] == 1:
        return decay * state[..., None, :] + drive
    return jax.lax.platform_dependent(
        state, decay, drive, cpu=run_sequential, default=run_associative
    )


def run_sequential(
    state: Inexact[Array, "*b p"],
    decay: Inexact[Array, "*b g _"],
    drive: Inexact[Array, "*b g p"],
) -> Inexact[Array, "*b g p"]:
    """Run step by step; see `run`."""

    def move(x: Array, rows: tuple[Array, Array]) -> tuple[Array, Array]:
        x = rows[0] * x + rows[1]
        return x, x

    rows = (jnp.moveaxis(decay, -2, 0), jnp.moveaxis(drive, -2, 0))
    _, after = jax.lax.scan(move, state, rows)
    return jnp.moveaxis(after, 0, -2)


def run_associative(
    state: Inexact[Array, "*b p"],
    decay: Inexact[Array, "*b g _"],
    drive: Inexact[Array, "*b g p"],
) -> Inexact[Array, "*b g p"]:
    """Run as a tree of depth log g; see `run`."""
    first = decay[..., :1, :] * state[..., None, :] + drive[..., :1, :]
    drive = jnp.concatenate([first, drive[..., 1:, :]], axis=-2)
    return jax.lax.associative_scan(_compose, (decay, drive), axis=-2)[1]


def _compose(
    early: tuple[Array, Array], late: tuple[Array, Array]
) -> tuple[Array, Array]:
    return early[0] * late[0], late[0] * early[1] + late[1]
