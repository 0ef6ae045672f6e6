"""The memory in which a thread works on a block."""

from __future__ import annotations

from typing import NamedTuple

from saccade.model.cpu_kernels import mixing, recurrence, sums
from saccade.model.cpu_kernels.call import (
    GAPS,
    TABLE,
    TOKENS,
    Call,
    Layer,
    layer_of,
    part_of,
    row_of,
)
from saccade.model.cpu_kernels.memory import (
    copy,
    long,
    number,
    put_whole,
    whole,
)
from saccade.model.cpu_kernels.products import multiply
from saccade.model.cpu_kernels.readout import read_out
from saccade.model.cpu_kernels.sums import Groups, Projections
from saccade.model.cpu_kernels.vectors import compiled, merged
from saccade.model.cpu_kernels.work import Work, end_turn, wait_for_turn


class Scratch(NamedTuple):
    """Addresses of matrices, each large enough for any layer; all are int64.

    Attributes:
        members: Of `sums.Groups`, as are the next five.
        x: A layer's inputs, (rows, inputs), then its outputs.
        feed: The inputs, normalised, then their means, (rows, inputs).
        y: Outputs before the gate, (rows, outputs).
        active: Those, activated, (rows, outputs).
        other: What else is as large.
        skip: The residual branch, widened, (rows, outputs).
        wide: What inputs drive, then the states, (rows, 2·states).
        total: What groups add to the states, (rows, 2·states).
        decay: What durations leave of them, (rows, 2·states).
        reach: What first gaps leave of them, (rows, 2·states).
        state: One session's, (2·states,).
    """

    members: int
    gaps: int
    held: int
    left: int
    shares: int
    first_gaps: int
    x: int
    feed: int
    y: int
    active: int
    other: int
    skip: int
    wide: int
    total: int
    decay: int
    reach: int
    state: int


class Sizes(NamedTuple):
    """What the scratch memory must hold, in numbers of four bytes.

    Attributes:
        events: Of the largest block.
        features: Of its rows after the first pooling, in any layer.
        states: Likewise.
        state: The planes of a state, in any layer.
    """

    events: int
    features: int
    states: int
    state: int


@compiled
def sizes_of(call: Call, events: int) -> Sizes:
    """Return what blocks of at most so many events need."""
    features = 0
    states = 0
    for place in range(call.layers):
        layer = layer_of(call, place)
        features = max(features, layer.inputs, layer.outputs)
        states = max(states, 2 * layer.states)
    rows = events // layer_of(call, 0).stride
    return Sizes(events, rows * features, rows * states, states)


@compiled
def bytes_of(sizes: Sizes) -> int:
    """Return how many bytes that makes."""
    return 4 * (6 * sizes.events + 6 * sizes.features + 4 * sizes.states + sizes.state)


@compiled
def scratch_of(sizes: Sizes, begin: int) -> Scratch:
    """Divide up the memory at an address."""
    events, features, states = 4 * sizes.events, 4 * sizes.features, 4 * sizes.states
    x = begin + 6 * events
    wide = x + 6 * features
    return Scratch(
        begin,
        begin + events,
        begin + 2 * events,
        begin + 3 * events,
        begin + 4 * events,
        begin + 5 * events,
        x,
        x + features,
        x + 2 * features,
        x + 3 * features,
        x + 4 * features,
        x + 5 * features,
        wide,
        wide + states,
        wide + 2 * states,
        wide + 3 * states,
        wide + 4 * states,
    )


# >>> merged from model.native.layers
# >>> """A block through all layers: from tokens to ticks, a few at a time."""


@merged
def run_block(call: Call, work: Work, scratch: Scratch, block: int) -> None:
    """Run a block through every layer and into its sessions' readouts."""
    begin = block * work.size
    end = min(begin + work.size, work.items)
    _read(call, work, scratch, begin, end)
    rows = (end - begin) * call.tick
    for place in range(call.layers):
        layer = layer_of(call, place)
        rows = _enter(call, layer, scratch, rows, place)
        wait_for_turn(work, block, place)
        _recur(call, work, layer, scratch, (begin, end), rows // (end - begin))
        end_turn(work, block, place)
        _mix(call, layer, scratch, rows)
    wait_for_turn(work, block, call.layers)
    _read_out(call, work, scratch, begin, end)
    end_turn(work, block, call.layers)


@compiled
def _read(call: Call, work: Work, scratch: Scratch, begin: int, end: int) -> None:
    """Copy the tokens and gaps of some ticks, one after the other."""
    tokens, gaps = long(call.arguments, TOKENS), long(call.arguments, GAPS)
    size = 4 * call.tick
    for item in range(begin, end):
        session, tick = whole(work.sessions, item), whole(work.ticks, item)
        source = 4 * session * call.events + tick * size
        copy(scratch.gaps + (item - begin) * size, gaps + source, size)
        for i in range(call.tick):
            token = min(max(whole(tokens + source, i), 0), call.words - 1)
            put_whole(scratch.members, (item - begin) * call.tick + i, token)


@compiled
def _read_out(call: Call, work: Work, scratch: Scratch, begin: int, end: int) -> None:
    """Take what the last layer puts out, one row a tick, into the readouts."""
    last = layer_of(call, call.layers - 1)
    for item in range(begin, end):
        session, tick = whole(work.sessions, item), whole(work.ticks, item)
        x = scratch.x + 4 * (item - begin) * last.outputs
        elapsed_ms = number(scratch.gaps, item - begin)
        read_out(call, session, tick, elapsed_ms, x, last.real_outputs)


@compiled
def _enter(call: Call, layer: Layer, scratch: Scratch, rows: int, place: int) -> int:
    """Do what a layer can do before its turn; return how many rows are left."""
    rates = layer.rates_real, layer.rates_imag
    if place > 0:
        _project(call, layer, scratch, rows)
    elif layer.stride == 1:
        _look_up(call, layer, scratch, rows)
    if layer.stride > 1:
        rows = _sum_up(call, layer, scratch, rows, place)
    elif call.holds:
        recurrence.hold_inputs(scratch.gaps, rows, rates, layer.states, scratch.wide)
    recurrence.decays(scratch.gaps, rows, rates, layer.states, scratch.decay)
    return rows


@compiled
def _project(call: Call, layer: Layer, scratch: Scratch, rows: int) -> None:
    """Normalise a layer's inputs and project them."""
    if call.prenorm:
        _normalize(
            call, layer, rows, layer.real_inputs, layer.inputs, scratch.x, scratch.feed
        )
    else:
        copy(scratch.feed, scratch.x, 4 * rows * layer.inputs)
    width = 2 * layer.states
    multiply(scratch.feed, layer.B, scratch.wide, rows, layer.inputs, width)


@compiled
def _normalize(
    call: Call,
    layer: Layer,
    rows: int,
    real_width: int,
    width: int,
    x: int,
    result: int,
) -> None:
    scale, shift = layer.norm, layer.norm_bias
    if call.affine:
        mixing.affine_norm(x, scale, shift, rows, width, result)
    else:
        mixing.layer_norm(x, scale, shift, rows, real_width, width, result)


@compiled
def _look_up(call: Call, layer: Layer, scratch: Scratch, rows: int) -> None:
    """Copy the tokens' projections, where each is a group of its own."""
    table = _table(call, layer)
    size = 4 * layer.inputs
    for row in range(rows):
        at = 4 * table.step * whole(scratch.members, row)
        wide = scratch.wide + 8 * row * layer.states
        copy(wide, table.drive + at, 8 * layer.states)
        copy(scratch.feed + row * size, table.feed + at, size)
        copy(scratch.x + row * size, table.skip + at, size)


@compiled
def _sum_up(call: Call, layer: Layer, scratch: Scratch, inputs: int, place: int) -> int:
    """Sum up stride groups, in their own place; return how many there are."""
    rows = Projections(
        scratch.wide, 2 * layer.states, scratch.feed, scratch.x, layer.inputs, 0
    )
    if place == 0:
        rows = _table(call, layer)
    else:
        for row in range(inputs):
            put_whole(scratch.members, row, row)
    groups = Groups(
        inputs // layer.stride,
        layer.stride,
        scratch.members,
        scratch.gaps,
        scratch.held,
        scratch.left,
        scratch.shares,
        scratch.first_gaps,
    )
    rates = layer.rates_real, layer.rates_imag
    total, first = scratch.total, scratch.wide
    sums.fetch(groups, 0, rows, 0, 16)
    sums.weigh(groups, call.weighting)
    for group in range(groups.rows):
        sums.sum_states(
            groups, group, rows, rates, layer.states, call.holds, total, first
        )
        sums.sum_mean(groups, group, rows.feed, rows.step, layer.inputs, scratch.feed)
        sums.sum_mean(groups, group, rows.skip, rows.step, layer.inputs, scratch.x)
    recurrence.decays(
        scratch.first_gaps, groups.rows, rates, layer.states, scratch.reach
    )
    return groups.rows


@compiled
def _table(call: Call, layer: Layer) -> Projections:
    """Return the tokens' projections: a row of the table holds all of one's."""
    drive = part_of(call, TABLE)
    feed = drive + 8 * layer.states
    step = 2 * (layer.states + layer.inputs)
    return Projections(drive, step, feed, feed + 4 * layer.inputs, step, step)


@compiled
def _recur(
    call: Call,
    work: Work,
    layer: Layer,
    scratch: Scratch,
    items: tuple[int, int],
    rows: int,
) -> None:
    """Run the recurrence over items of so many rows; `wide` becomes the states."""
    size = layer.states
    begin, end = items
    for item in range(begin, end):
        row, tick = row_of(call, whole(work.sessions, item)), whole(work.ticks, item)
        moved = layer.moved + 8 * row * layer.real_states
        if item == begin or tick == 0:
            recurrence.split(moved, layer.real_states, size, scratch.state)
        at = 8 * (item - begin) * rows * size
        decay, wide = scratch.decay + at, scratch.wide + at
        if layer.stride > 1:
            total, reach = scratch.total + at, scratch.reach + at
            recurrence.run_groups(scratch.state, size, rows, decay, total, reach, wide)
        else:
            recurrence.run(scratch.state, size, rows, decay, wide)
        if item + 1 == end or whole(work.ticks, item + 1) == 0:
            recurrence.join(scratch.state, layer.real_states, size, moved)


@compiled
def _mix(call: Call, layer: Layer, scratch: Scratch, rows: int) -> None:
    """Turn states into outputs, in the place of the inputs; see `Block.mix`."""
    width = layer.outputs
    widens = layer.real_inputs != layer.real_outputs  # D is a matrix then
    y, active, other, skip = scratch.y, scratch.active, scratch.other, scratch.x
    multiply(scratch.wide, layer.C, y, rows, 2 * layer.states, width)
    if widens:
        multiply(scratch.feed, layer.D, other, rows, layer.inputs, width)
        mixing.add(other, rows, width, y, active)
    else:
        mixing.pass_on(scratch.feed, layer.D, rows, width, y, active)
    multiply(active, layer.gate, other, rows, width, width)
    if widens:
        skip = scratch.skip
        multiply(scratch.x, layer.widen, skip, rows, layer.inputs, width)
        mixing.shift(skip, layer.widen_bias, rows, width)
    mixing.gate(y, other, layer.gate_bias, skip, rows, width, scratch.x)
    if not call.prenorm:
        _normalize(call, layer, rows, layer.real_outputs, width, scratch.x, scratch.x)
