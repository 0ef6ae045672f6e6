"""The readout over one block: see `model.readout`, whose arithmetic this is."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from saccade.model.cpu_kernels.call import (
    MOVED,
    STATES,
    TABLE,
    Call,
    part_of,
    row_of,
)
from saccade.model.cpu_kernels.functions import power
from saccade.model.cpu_kernels.memory import (
    copy,
    long,
    number,
    put,
)
from saccade.model.cpu_kernels.vectors import (
    compiled,
    fill,
    fma,
    lane,
    load,
    load_some,
    store,
    store_some,
)
from saccade.model.pooling import EPSILON_MS

RULES: Final = {"pool": (0, 1), "timepool": (1, 1), "last": (0, 0)}
"""Of `model.readout.READOUTS`: `timed` and `keeps` of a call."""

_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_EPSILON_MS: Final = np.float32(EPSILON_MS)


@compiled
def read_out(
    call: Call, session: int, tick: int, elapsed_ms: float, x: int, width: int
) -> None:
    """Take a tick's outputs into a session's mean and write its logits.

    Args:
        call: The call.
        session: Which.
        tick: Counted from the call's first.
        elapsed_ms: The tick's duration.
        x: Address of the last layer's outputs, in whole vectors; they are lost.
        width: Features.
    """
    scale = _accumulate(call, row_of(call, session), elapsed_ms, x, width)
    most = call.events // call.tick
    _decode(call, x, scale, width, 4 * (session * most + tick) * call.classes)


@compiled
def repeat_last(call: Call, session: int, ticks: int, width: int) -> None:
    """Write the logits of all places past a session's own ticks: its last once more."""
    most = call.events // call.tick
    logits = long(call.results, call.layers + MOVED)
    size = 4 * call.classes
    begin = session * most
    if ticks == 0:
        row = row_of(call, session)
        mean = long(call.results, call.layers) + 4 * row * width
        weight = number(long(call.results, call.layers + 2), row)
        excess = number(long(call.results, call.layers + 4), row)
        scale = (weight + excess) / weight if weight > _ZERO else _ONE
        _decode(call, mean, scale, width, begin * size)
    last = logits + (begin + max(ticks - 1, 0)) * size
    for tick in range(max(ticks, 1), most):
        copy(logits + (begin + tick) * size, last, size)


@compiled
def _accumulate(call: Call, row: int, elapsed_ms: float, x: int, width: int) -> Any:
    """Move a row's accumulators; x becomes the mean, but for a returned scale."""
    mean = long(call.results, call.layers) + 4 * row * width
    mean_error = long(call.results, call.layers + 1) + 4 * row * width
    weights = long(call.results, call.layers + 2)
    weight_errors = long(call.results, call.layers + 3)
    excesses = long(call.results, call.layers + 4)
    half_lives = long(call.arguments, STATES + call.layers + MOVED)
    new = elapsed_ms if call.timed else _ONE
    kept = _ZERO
    if call.keeps:
        kept = lane(power(fill(-elapsed_ms / number(half_lives, row))))
    before = kept * number(weights, row)
    excess = kept * number(excesses, row)
    share = new
    if call.timed:
        share = new + _EPSILON_MS
        excess = excess + _EPSILON_MS
    weight = before + new
    shares = weight + excess
    part = share / shares if shares > _ZERO else share
    for v in range(0, width, 16):
        some = min(width - v, 16)
        old = load_some(mean, v, some)
        error = load_some(mean_error, v, some)
        step = fill(part) * (load(x, v) - old) + error
        after = old + step
        rounded = after - old
        lost = (old - (after - rounded)) + (step - rounded)
        store_some(mean_error, v, some, lost)
        store_some(mean, v, some, after)
        store(x, v, after)
    more = new + kept * number(weight_errors, row)
    total = before + more
    rounded_weight = total - before
    lost_weight = (before - (total - rounded_weight)) + (more - rounded_weight)
    put(weights, row, total)
    put(weight_errors, row, lost_weight)
    put(excesses, row, excess)
    return shares / weight if weight > _ZERO else _ONE


@compiled
def _decode(call: Call, mean: int, scale: Any, width: int, place: int) -> None:
    """Write the logits of a scaled mean, so many bytes from the first."""
    kernel, bias = part_of(call, TABLE + 1), part_of(call, TABLE + 2)
    logits = long(call.results, call.layers + MOVED) + place
    for v in range(0, call.classes, 16):
        some = min(call.classes - v, 16)
        added = load_some(bias, v, some)
        for k in range(width):
            weights = load_some(kernel, k * call.classes + v, some)
            added = fma(fill(scale * number(mean, k)), weights, added)
        store_some(logits, v, some, added)
