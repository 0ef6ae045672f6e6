"""The readout of one tick and its logits, with the arithmetic of `model.readout`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from saccade.model.cpu_kernels.call import MOVED, STATES, Call, row_of
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
    scale = _accumulate(call, row_of(call, session), elapsed_ms, x, width)
    most = call.plan.events // call.plan.tick
    _decode(call, x, scale, width, 4 * (session * most + tick) * call.plan.classes)


@compiled
def repeat_last(call: Call, session: int, ticks: int, width: int) -> None:
    """Write a session's last logits into all places past its own ticks."""
    layers = call.plan.layers
    most = call.plan.events // call.plan.tick
    logits = load_i64(call.results, layers + MOVED)
    size = 4 * call.plan.classes
    begin = session * most
    if ticks == 0:
        row = row_of(call, session)
        mean = load_i64(call.results, layers) + 4 * row * width
        weight = load_f32(load_i64(call.results, layers + 2), row)
        excess = load_f32(load_i64(call.results, layers + 4), row)
        scale = (weight + excess) / weight if weight > _ZERO else _ONE
        _decode(call, mean, scale, width, begin * size)
    last = logits + (begin + max(ticks - 1, 0)) * size
    for tick in range(max(ticks, 1), most):
        copy(logits + (begin + tick) * size, last, size)


@compiled
def _accumulate(call: Call, row: int, elapsed_ms: float, x: int, width: int) -> Any:
    """Move a row's accumulators; write into x the mean but for the returned scale."""
    plan = call.plan
    mean = load_i64(call.results, plan.layers) + 4 * row * width
    mean_error = load_i64(call.results, plan.layers + 1) + 4 * row * width
    weights = load_i64(call.results, plan.layers + 2)
    weight_errors = load_i64(call.results, plan.layers + 3)
    excesses = load_i64(call.results, plan.layers + 4)
    half_lives = load_i64(call.arguments, STATES + plan.layers + MOVED)
    new = elapsed_ms if plan.timed else _ONE
    kept = _ZERO
    if plan.averages:
        kept = first_lane(exp2(broadcast(-elapsed_ms / load_f32(half_lives, row))))
    before = kept * load_f32(weights, row)
    excess = kept * load_f32(excesses, row)
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
    more = new + kept * load_f32(weight_errors, row)
    total = before + more
    added = total - before
    store_f32(weights, row, total)
    store_f32(weight_errors, row, (before - (total - added)) + (more - added))
    store_f32(excesses, row, excess)
    return shares / weight if weight > _ZERO else _ONE


@compiled
def _decode(call: Call, mean: int, scale: Any, width: int, place: int) -> None:
    """Write the logits of a scaled mean, `place` bytes from the first logit."""
    plan = call.plan
    logits = load_i64(call.results, plan.layers + MOVED) + place
    for v in range(0, plan.classes, WIDTH):
        some = min(plan.classes - v, WIDTH)
        added = load_partial(plan.decoder_bias, v, some)
        for k in range(width):
            weights = load_partial(plan.decoder, k * plan.classes + v, some)
            added = fma(broadcast(scale * load_f32(mean, k)), weights, added)
        store_partial(logits, v, some, added)
