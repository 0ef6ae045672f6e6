"""The memory in which a thread works on a block."""

from __future__ import annotations

from typing import NamedTuple

from saccade.model.native.call import Call, layer_of
from saccade.model.native.compiler import compiled


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
