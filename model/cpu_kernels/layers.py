"""A block's stages, from tokens through all layers to logits, in scratch memory."""

from __future__ import annotations

from typing import NamedTuple

from saccade.model.cpu_kernels import group_sums, pointwise, recurrence
from saccade.model.cpu_kernels.call import (
    GAPS,
    TOKENS,
    Call,
    Layer,
    layer_of,
    row_of,
)
from saccade.model.cpu_kernels.group_sums import Groups, Projections
from saccade.model.cpu_kernels.jobs import Job, finish_stage
from saccade.model.cpu_kernels.matmul import matmul
from saccade.model.cpu_kernels.memory import (
    copy,
    load_f32,
    load_i32,
    load_i64,
    store_i32,
)
from saccade.model.cpu_kernels.readout import read_out
from saccade.model.cpu_kernels.recurrence import GroupRows
from saccade.model.cpu_kernels.vectors import compiled


class Scratch(NamedTuple):
    """Addresses of a block's matrices, each large enough for any layer; all are int64.

    `rows` are those of the block after the first pooling.

    Attributes:
        indices: Of `group_sums.Groups`, as are the next five.
        x: A layer's inputs, (rows, inputs), then its outputs.
        feed: The inputs, normalised, then their means, (rows, inputs).
        y: Outputs before the gate, (rows, outputs).
        active: y, activated, (rows, outputs).
        product: A matrix product, (rows, outputs).
        skip: The projected residual branch, (rows, outputs).
        drive: The inputs' drives, then the states, (rows, 2·states).
        total: The groups' contributions to the states, (rows, 2·states).
        decay: The decays over the groups' durations, (rows, 2·states).
        first_decay: The decays over the groups' first gaps, (rows, 2·states).
        state: One session's, (2·states,).
    """

    indices: int
    gaps: int
    token_gaps: int
    left: int
    shares: int
    first_gaps: int
    x: int
    feed: int
    y: int
    active: int
    product: int
    skip: int
    drive: int
    total: int
    decay: int
    first_decay: int
    state: int


class Sizes(NamedTuple):
    """Sizes of the scratch matrices, in numbers of four bytes.

    Attributes:
        events: Events of the largest block.
        features: The largest of any layer's (rows, inputs) and (rows, outputs).
        states: The largest of any layer's (rows, 2·states).
        state: The largest of any layer's (2·states,).
    """

    events: int
    features: int
    states: int
    state: int


@compiled
def sizes_of(call: Call, events: int) -> Sizes:
    """Return the sizes for blocks of at most `events` events."""
    features = 0
    states = 0
    for place in range(call.plan.layers):
        layer = layer_of(call, place)
        features = max(features, layer.inputs, layer.outputs)
        states = max(states, 2 * layer.states)
    rows = events // layer_of(call, 0).stride
    return Sizes(events, rows * features, rows * states, states)


@compiled
def bytes_of(sizes: Sizes) -> int:
    """Return the size of the scratch memory in bytes."""
    return 4 * (6 * sizes.events + 6 * sizes.features + 4 * sizes.states + sizes.state)


@compiled
def scratch_of(sizes: Sizes, begin: int) -> Scratch:
    """Divide the scratch memory at an address into matrices."""
    events, features, states = 4 * sizes.events, 4 * sizes.features, 4 * sizes.states
    x = begin + 6 * events
    drive = x + 6 * features
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
        drive,
        drive + states,
        drive + 2 * states,
        drive + 3 * states,
        drive + 4 * states,
    )


@compiled
def run_stage(
    call: Call, job: Job, scratch: Scratch, block: int, stage: int, rows: int
) -> int:
    """Run a stage of a block, and all up to the next one.

    Stage -1 reads the tokens, one stage a layer is its recurrence, and the last one is
    the readout.

    Args:
        call: The call.
        job: Its job.
        scratch: The block's.
        block: The block.
        stage: Follows the one that ran last.
        rows: Returned by the stage before; any for the first.

    Returns:
        The block's rows after the stage.
    """
    layers = call.plan.layers
    begin = block * job.size
    end = min(begin + job.size, job.items)
    if stage == layers:
        _read_out(call, job, scratch, begin, end)
        finish_stage(job, block, stage)
        return 0
    if stage < 0:
        _read(call, job, scratch, begin, end)
        rows = (end - begin) * call.plan.tick
    else:
        layer = layer_of(call, stage)
        _recur(call, job, layer, scratch, (begin, end), rows // (end - begin))
        finish_stage(job, block, stage)
        _mix(call, layer, scratch, rows)
    if stage + 1 < layers:
        rows = _prepare(call, layer_of(call, stage + 1), scratch, rows, stage + 1)
    return rows


@compiled
def _read(call: Call, job: Job, scratch: Scratch, begin: int, end: int) -> None:
    """Copy the tokens and gaps of the items from `begin` to `end`."""
    tokens, gaps = load_i64(call.arguments, TOKENS), load_i64(call.arguments, GAPS)
    plan = call.plan
    size = 4 * plan.tick
    for item in range(begin, end):
        session, tick = load_i32(job.sessions, item), load_i32(job.ticks, item)
        source = 4 * session * plan.events + tick * size
        copy(scratch.gaps + (item - begin) * size, gaps + source, size)
        for i in range(plan.tick):
            token = min(max(load_i32(tokens + source, i), 0), plan.vocabulary - 1)
            store_i32(scratch.indices, (item - begin) * plan.tick + i, token)


@compiled
def _read_out(call: Call, job: Job, scratch: Scratch, begin: int, end: int) -> None:
    """Add the last layer's outputs, one row a tick, to the sessions' readouts."""
    last = layer_of(call, call.plan.layers - 1)
    for item in range(begin, end):
        session, tick = load_i32(job.sessions, item), load_i32(job.ticks, item)
        x = scratch.x + 4 * (item - begin) * last.outputs
        elapsed_ms = load_f32(scratch.gaps, item - begin)
        read_out(call, session, tick, elapsed_ms, x, last.real_outputs)


@compiled
def _prepare(call: Call, layer: Layer, scratch: Scratch, rows: int, place: int) -> int:
    """Compute all of a layer that its states do not enter; return its rows."""
    rates = layer.rates_real, layer.rates_imag
    if place > 0:
        _project(call, layer, scratch, rows)
    elif layer.stride == 1:
        _embed(call, layer, scratch, rows)
    if layer.stride > 1:
        rows = _sum_groups(call, layer, scratch, rows, place)
    elif call.plan.holds:
        recurrence.hold_inputs(scratch.gaps, rows, rates, layer.states, scratch.drive)
    recurrence.decays(scratch.gaps, rows, rates, layer.states, scratch.decay)
    return rows


@compiled
def _project(call: Call, layer: Layer, scratch: Scratch, rows: int) -> None:
    """Normalise a layer's inputs and project them."""
    if call.plan.prenorm:
        _normalize(
            call, layer, rows, layer.real_inputs, layer.inputs, scratch.x, scratch.feed
        )
    else:
        copy(scratch.feed, scratch.x, 4 * rows * layer.inputs)
    width = 2 * layer.states
    matmul(scratch.feed, layer.B, scratch.drive, rows, layer.inputs, width)


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
    if call.plan.affine_norm:
        pointwise.affine_norm(x, scale, shift, rows, width, result)
    else:
        pointwise.layer_norm(x, scale, shift, rows, real_width, width, result)


@compiled
def _embed(call: Call, layer: Layer, scratch: Scratch, rows: int) -> None:
    """Copy the tokens' projections, where the first layer has stride 1."""
    table = _table(call, layer)
    size = 4 * layer.inputs
    for row in range(rows):
        at = 4 * table.step * load_i32(scratch.indices, row)
        drive = scratch.drive + 8 * row * layer.states
        copy(drive, table.drive + at, 8 * layer.states)
        copy(scratch.feed + row * size, table.feed + at, size)
        copy(scratch.x + row * size, table.skip + at, size)


@compiled
def _sum_groups(
    call: Call, layer: Layer, scratch: Scratch, inputs: int, place: int
) -> int:
    """Sum stride groups, in the place of their tokens; return the number of groups."""
    rows = Projections(
        scratch.drive, 2 * layer.states, scratch.feed, scratch.x, layer.inputs, 0
    )
    if place == 0:
        rows = _table(call, layer)
    else:
        for row in range(inputs):
            store_i32(scratch.indices, row, row)
    groups = Groups(
        inputs // layer.stride,
        layer.stride,
        scratch.indices,
        scratch.gaps,
        scratch.token_gaps,
        scratch.left,
        scratch.shares,
        scratch.first_gaps,
    )
    rates = layer.rates_real, layer.rates_imag
    total, first, holds = scratch.total, scratch.drive, call.plan.holds
    group_sums.fetch_first(groups, rows)
    group_sums.weigh(groups, call.plan.pooling)
    for group in range(groups.rows):
        group_sums.sum_states(
            groups, group, rows, rates, layer.states, holds, total, first
        )
        group_sums.sum_mean(
            groups, group, rows.feed, rows.step, layer.inputs, scratch.feed
        )
        group_sums.sum_mean(
            groups, group, rows.skip, rows.step, layer.inputs, scratch.x
        )
    recurrence.decays(
        scratch.first_gaps, groups.rows, rates, layer.states, scratch.first_decay
    )
    return groups.rows


@compiled
def _table(call: Call, layer: Layer) -> Projections:
    """Return the table of the tokens' projections: one row holds all of a token's."""
    drive = call.plan.table
    feed = drive + 8 * layer.states
    step = 2 * (layer.states + layer.inputs)
    return Projections(drive, step, feed, feed + 4 * layer.inputs, step, step)


@compiled
def _recur(
    call: Call,
    job: Job,
    layer: Layer,
    scratch: Scratch,
    items: tuple[int, int],
    rows: int,
) -> None:
    """Run the recurrence over items of `rows` rows each.

    `scratch.drive` becomes the states of every row.
    """
    size = layer.states
    begin, end = items
    for item in range(begin, end):
        tick = load_i32(job.ticks, item)
        carry = row_of(call, load_i32(job.sessions, item)) + 4 * layer.carry
        if item == begin or tick == 0:
            recurrence.read_state(carry, layer.real_states, size, scratch.state)
        at = 8 * (item - begin) * rows * size
        decay, drive = scratch.decay + at, scratch.drive + at
        if layer.stride > 1:
            total, first_decay = scratch.total + at, scratch.first_decay + at
            groups = GroupRows(decay, total, first_decay, drive)
            recurrence.group_scan(scratch.state, size, rows, groups)
        else:
            recurrence.linear_scan(scratch.state, size, rows, decay, drive)
        if item + 1 == end or load_i32(job.ticks, item + 1) == 0:
            recurrence.write_state(scratch.state, layer.real_states, size, carry)


@compiled
def _mix(call: Call, layer: Layer, scratch: Scratch, rows: int) -> None:
    """Turn states into outputs, in the place of the inputs; see `Block.mix`."""
    width = layer.outputs
    projects = layer.real_inputs != layer.real_outputs  # D is a matrix then
    y, active, product, skip = scratch.y, scratch.active, scratch.product, scratch.x
    matmul(scratch.drive, layer.C, y, rows, 2 * layer.states, width)
    if projects:
        matmul(scratch.feed, layer.D, product, rows, layer.inputs, width)
        pointwise.add_matrix(product, rows, width, y, active)
    else:
        pointwise.add_feedthrough(scratch.feed, layer.D, rows, width, y, active)
    matmul(active, layer.gate, product, rows, width, width)
    if projects:
        skip = scratch.skip
        matmul(scratch.x, layer.skip_projection, skip, rows, layer.inputs, width)
        pointwise.add_bias(skip, layer.skip_bias, rows, width)
    pointwise.gate_and_add(y, product, layer.gate_bias, skip, rows, width, scratch.x)
    if not call.plan.prenorm:
        _normalize(call, layer, rows, layer.real_outputs, width, scratch.x, scratch.x)
