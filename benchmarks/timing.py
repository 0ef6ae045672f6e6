"""Timing that a noisy machine spoils as little as possible."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
import numpy.typing as npt

Call = Callable[[], object]
Seconds = npt.NDArray[np.float64]


def interleave(calls: Mapping[str, Call], budget_s: float) -> dict[str, Seconds]:
    """Time every call in turn until the time is spent, at least 5 times each.

    What disturbs the machine for a while then disturbs all of them. Each call is
    made once beforehand, and its result is waited for before the clock stops.
    """
    for call in calls.values():
        jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + budget_s
    while time.perf_counter() < end or len(next(iter(taken.values()))) < 5:
        for name, call in calls.items():
            taken[name].append(_time(call))
    return {name: np.asarray(seconds) for name, seconds in taken.items()}


def _time(call: Call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())  # type: ignore[no-untyped-call]
    return time.perf_counter() - start
