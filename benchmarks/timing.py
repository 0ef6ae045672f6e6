"""Timing of several calls in turn, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import jax
import numpy as np
import numpy.typing as npt

BURST_S: Final = 0.05

Call = Callable[[], object]
Seconds = npt.NDArray[np.float64]


def interleave(
    calls: Mapping[str, Call], budget_s: float, burst_s: float = BURST_S
) -> dict[str, Seconds]:
    """Time every call in turn until `budget_s` is spent, at least 5 turns each.

    A turn is a burst of at least `burst_s`. Its first call warms the caches and is not
    counted, unless that call alone takes longer than `burst_s`. A call's time ends
    when its result is ready.

    Returns:
        The seconds of each counted call, by name.
    """
    for call in calls.values():
        _time(call)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end, turns = time.perf_counter() + budget_s, 0
    while time.perf_counter() < end or turns < 5:
        for name, call in calls.items():
            taken[name] += _burst(call, burst_s)
        turns += 1
    return {name: np.asarray(seconds) for name, seconds in taken.items()}


def _burst(call: Call, burst_s: float) -> list[float]:
    first = _time(call)
    taken = [first if first > burst_s > 0.0 else _time(call)]
    while sum(taken) < burst_s:
        taken.append(_time(call))
    return taken


def _time(call: Call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    return time.perf_counter() - start
