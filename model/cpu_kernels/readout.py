"""The readout of one tick and its logits, with the arithmetic of `model.readout`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from saccade.model.cpu_kernels.call import LOGITS, Call, row_of
from saccade.model.cpu_kernels.functions import exp2
from saccade.model.cpu_kernels.memory import copy, load_f32, load_i64, store_f32
from saccade.model.cpu_kernels.vectors import (
    WIDTH,
    broadcast,
    compiled,
    first_lane,
    fma,
    load,
    load_partial,
    store,
    store_partial,
)
from saccade.model.pooling import EPSILON_MS

_ZERO: Final = np.float32(0.0)
_ONE: Final = np.float32(1.0)
_EPSILON_MS: Final = np.float32(EPSILON_MS)

# Places of the accumulators that are one number, behind the mean and its error.
_WEIGHT: Final = 0
_WEIGHT_ERROR: Final = 1
_EXCESS: Final = 2
_HALF_LIFE: Final = 3


@compiled
def read_out(
    call: Call, session: int, tick: int, elapsed_ms: float, x: int, width: int
) -> None:
    """Add a tick's outputs to a session's mean and write its logits.

    Args:
        call: The call.
        session: Index of the session.
        tick: Counted from the call's first.
        elapsed_ms: The tick's duration.
        x: Address of the last layer's outputs, in whole vectors; overwritten.
        width: Features.
    """
    readout = row_of(call, session) + 4 * call.plan.readout
    scale = _accumulate(call, readout, elapsed_ms, x, width)
    most = call.plan.events // call.plan.tick
    _decode(call, x, scale, width, 4 * (session * most + tick) * call.plan.classes)


@compiled
def repeat_last(call: Call, session: int, ticks: int, width: int) -> None:
    """Write a session's last logits into all places past its own ticks."""
    most = call.plan.events // call.plan.tick
    logits = load_i64(call.results, LOGITS)
    size = 4 * call.plan.classes
    begin = session * most
    if ticks == 0:
        mean = row_of(call, session) + 4 * call.plan.readout
        totals = mean + 8 * width
        weight, excess = load_f32(totals, _WEIGHT), load_f32(totals, _EXCESS)
        scale = (weight + excess) / weight if weight > _ZERO else _ONE
        _decode(call, mean, scale, width, begin * size)
    last = logits + (begin + max(ticks - 1, 0)) * size
    for tick in range(max(ticks, 1), most):
        copy(logits + (begin + tick) * size, last, size)


@compiled
def _accumulate(call: Call, mean: int, elapsed_ms: float, x: int, width: int) -> Any:
    """Move the accumulators that begin with a mean.

    It writes into x the new mean but for a scale, and returns the scale.
    """
    plan, mean_error, totals = call.plan, mean + 4 * width, mean + 8 * width
    new = elapsed_ms if plan.timed else _ONE
    kept = _ZERO
    if plan.averages:
        kept = first_lane(exp2(broadcast(-elapsed_ms / load_f32(totals, _HALF_LIFE))))
    before = kept * load_f32(totals, _WEIGHT)
    excess = kept * load_f32(totals, _EXCESS)
    share = new
    if plan.timed:
        share = new + _EPSILON_MS
        excess = excess + _EPSILON_MS
    weight = before + new
    shares = weight + excess
    part = share / shares if shares > _ZERO else share
    for v in range(0, width, WIDTH):
        some = min(width - v, WIDTH)
        old = load_partial(mean, v, some)
        error = load_partial(mean_error, v, some)
        step = broadcast(part) * (load(x, v) - old) + error
        after = old + step
        rounded = after - old
        lost = (old - (after - rounded)) + (step - rounded)
        store_partial(mean_error, v, some, lost)
        store_partial(mean, v, some, after)
        store(x, v, after)
    more = new + kept * load_f32(totals, _WEIGHT_ERROR)
    total = before + more
    added = total - before
    store_f32(totals, _WEIGHT, total)
    lost = (before - (total - added)) + (more - added)
    store_f32(totals, _WEIGHT_ERROR, lost)
    store_f32(totals, _EXCESS, excess)
    return shares / weight if weight > _ZERO else _ONE


@compiled
def _decode(call: Call, mean: int, scale: Any, width: int, place: int) -> None:
    """Write the logits of a scaled mean, `place` bytes from the first logit."""
    plan = call.plan
    logits = load_i64(call.results, LOGITS) + place
    for v in range(0, plan.classes, WIDTH):
        some = min(plan.classes - v, WIDTH)
        added = load_partial(plan.decoder_bias, v, some)
        for k in range(width):
            weights = load_partial(plan.decoder, k * plan.classes + v, some)
            added = fma(broadcast(scale * load_f32(mean, k)), weights, added)
        store_partial(logits, v, some, added)
