"""What a call works on, as compiled functions see it: sizes, choices and addresses.

The arguments are arrays in this order, each row after row:

    plan | rows, tokens, gaps, ticks | weights | each layer's states | accumulators

and the results likewise: each layer's states, the accumulators but the half-life, all
in the place of the arguments, and the logits. The plan says the rest, as int32: sizes,
choices, and where in the weights each part begins.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from saccade.model.cpu_kernels.memory import long, whole
from saccade.model.cpu_kernels.vectors import compiled

PLAN: Final = 0
ROWS: Final = 1
TOKENS: Final = 2
GAPS: Final = 3
TICKS: Final = 4
WEIGHTS: Final = 5
STATES: Final = 6
"""Where each layer's states begin."""

TABLE: Final = 13
"""Where the plan says where the table begins, then the decoder's kernel and bias."""

LAYERS: Final = 16
"""Where the plan's entries of layers begin."""

PER_LAYER: Final = 18
MOVED: Final = 5
"""Accumulators that a call moves: all but the half-life."""


class Call(NamedTuple):
    """Sizes, choices and addresses; all are int64.

    Attributes:
        plan: Address of the plan.
        arguments: Address of the arguments' addresses; `results` likewise.
        sessions: That have tokens.
        events: Tokens of each.
        layers: How many.
        tick: Tokens in a tick.
        weighting: One of `sums.WEIGHTINGS`.
        prenorm: Whether a layer normalises before all else, or at its end.
        affine: Whether a norm is a scale and a shift alone.
        words: Rows of the table.
        classes: Logits of a tick.
        timed: Whether a tick weighs its duration in the mean, and in the sum an
            epsilon more.
        keeps: Whether ticks before the newest count.
        holds: Whether an input acts during its whole gap (zero-order hold).
        rows: Rows of states and of accumulators, of which each session has one.
    """

    plan: int
    arguments: int
    results: int
    sessions: int
    events: int
    layers: int
    tick: int
    weighting: int
    prenorm: int
    affine: int
    words: int
    classes: int
    timed: int
    keeps: int
    holds: int
    rows: int


class Layer(NamedTuple):
    """One layer's sizes, choices and addresses; all are int64.

    Rows are filled up with zeros to a multiple of 16 numbers, and so are the weights.

    Attributes:
        stride: Tokens in per token out.
        inputs: Features in, filled up.
        states: SplitComplex states, filled up.
        outputs: Features out, filled up.
        real_inputs: Features in.
        real_states: SplitComplex states.
        real_outputs: Features out.
        rates_real: Address of a plane of ΛΔ; see `LayerWeights` for what follows.
        moved: Address of all rows' states, (rows, real_states), complex64.
    """

    stride: int
    inputs: int
    states: int
    outputs: int
    real_inputs: int
    real_states: int
    real_outputs: int
    rates_real: int
    rates_imag: int
    B: int
    C: int
    D: int
    gate: int
    gate_bias: int
    norm: int
    norm_bias: int
    widen: int
    widen_bias: int
    moved: int


@compiled
def call_of(addresses: int) -> Call:
    """Return the call whose arguments', then results' addresses lie there."""
    plan = long(addresses, PLAN)
    layers = whole(plan, 2)
    return Call(
        plan,
        addresses,
        addresses + 8 * arguments(layers),
        whole(plan, 0),
        whole(plan, 1),
        layers,
        whole(plan, 3),
        whole(plan, 4),
        whole(plan, 5),
        whole(plan, 6),
        whole(plan, 7),
        whole(plan, 8),
        whole(plan, 9),
        whole(plan, 10),
        whole(plan, 11),
        whole(plan, 12),
    )


@compiled
def row_of(call: Call, session: int) -> int:
    """Return a session's row of states and accumulators."""
    return min(max(whole(long(call.arguments, ROWS), session), 0), call.rows - 1)


@compiled
def arguments(layers: int) -> int:
    """Return how many arguments a call has."""
    return STATES + layers + MOVED + 1


@compiled
def results(layers: int) -> int:
    """Return how many results a call has."""
    return layers + MOVED + 1


@compiled
def part_of(call: Call, entry: int) -> int:
    """Return the address of the weights that begin where an entry of the plan says."""
    return long(call.arguments, WEIGHTS) + 4 * whole(call.plan, entry)


@compiled
def layer_of(call: Call, place: int) -> Layer:
    """Return a layer."""
    sizes = LAYERS + PER_LAYER * place
    parts = sizes + 7
    return Layer(
        whole(call.plan, sizes),
        whole(call.plan, sizes + 1),
        whole(call.plan, sizes + 2),
        whole(call.plan, sizes + 3),
        whole(call.plan, sizes + 4),
        whole(call.plan, sizes + 5),
        whole(call.plan, sizes + 6),
        part_of(call, parts),
        part_of(call, parts + 1),
        part_of(call, parts + 2),
        part_of(call, parts + 3),
        part_of(call, parts + 4),
        part_of(call, parts + 5),
        part_of(call, parts + 6),
        part_of(call, parts + 7),
        part_of(call, parts + 8),
        part_of(call, parts + 9),
        part_of(call, parts + 10),
        long(call.results, place),
    )
