"""The arguments and the plan of a call of the kernels.

The arguments are arrays in this order, each row after row:

    plan | rows, tokens, gaps, ticks | weights | pool

The results are the pool, in place of the argument, and the logits. A row of the pool
holds each layer's states, real parts then imaginary parts, and then the readout's
accumulators; see `model.state_rows`. The plan is int32: one `Plan`, then one `Layer` a
layer. A field's position in its class is its position in the plan.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from llvmlite import ir
from numba import types

from saccade.model.cpu_kernels.memory import load_i32, load_i64
from saccade.model.cpu_kernels.vectors import INT, LONG, compiled, intrinsic, pointer

# Positions of the arguments.
PLAN: Final = 0
ROWS: Final = 1
TOKENS: Final = 2
GAPS: Final = 3
TICKS: Final = 4
WEIGHTS: Final = 5
POOL: Final = 6
ARGUMENTS: Final = 7

# Positions of the results.
MOVED_POOL: Final = 0
LOGITS: Final = 1
RESULTS: Final = 2


class Plan(NamedTuple):
    """A call's sizes and choices, and where parts of the weights begin.

    In the plan a part is an index into the weights; a compiled function reads a part as
    an address.

    Attributes:
        sessions: Sessions that have tokens.
        events: Tokens of each session.
        layers: Number of layers.
        tick: Tokens in a tick.
        pooling: `choices.FIRST`, `EVEN` or `ELAPSED`.
        prenorm: Whether a layer normalises its inputs, or else its outputs.
        affine_norm: Whether a norm is only a scale and a shift.
        vocabulary: Rows of the table.
        classes: Logits of a tick.
        timed: See `choices.ReadoutCode`.
        averages: See `choices.ReadoutCode`.
        holds: Whether an input acts during its whole gap (zero-order hold).
        block_rows: Rows after the first pooling in a block, at most; a block holds at
            least a tick. Not compiled in: kept code may run with another cache.
        thread_ticks: Ticks that are worth another thread.
        rows: Rows of the pool; each session has one.
        width: Numbers in a row of the pool.
        readout: The accumulators' place in a row.
        table: Part: every token's projections.
        decoder: Part: the decoder's kernel.
        decoder_bias: Part.
    """

    sessions: int
    events: int
    layers: int
    tick: int
    pooling: int
    prenorm: int
    affine_norm: int
    vocabulary: int
    classes: int
    timed: int
    averages: int
    holds: int
    block_rows: int
    thread_ticks: int
    rows: int
    width: int
    readout: int
    table: int
    decoder: int
    decoder_bias: int


class Layer(NamedTuple):
    """One layer's sizes, and where parts of the weights begin, as in `Plan`.

    Rows of activations and of weights are padded with zeros to a multiple of 16.

    Attributes:
        stride: Tokens in per token out.
        inputs: Input features, padded.
        states: Complex states, padded.
        outputs: Output features, padded.
        real_inputs: Input features.
        real_states: Complex states.
        real_outputs: Output features.
        carry: The states' place in a row of the pool.
        rates_real: Part: the real parts of ΛΔ; see `LayerWeights` for the others.
    """

    stride: int
    inputs: int
    states: int
    outputs: int
    real_inputs: int
    real_states: int
    real_outputs: int
    carry: int
    rates_real: int
    rates_imag: int
    B: int
    C: int
    D: int
    gate: int
    gate_bias: int
    norm: int
    norm_bias: int
    skip_projection: int
    skip_bias: int


PLAN_BYTES: Final = 4 * len(Plan._fields)
LAYER_BYTES: Final = 4 * len(Layer._fields)


def _reader(record: Any, first_part: str) -> Any:
    """Return an operation that reads a `Plan` or `Layer`, the parts as addresses.

    Its arguments are the address of the first field and the address of the weights.
    """
    fields = record._fields
    parts = fields.index(first_part)
    result = types.NamedUniTuple(types.int64, len(fields), record)

    @intrinsic
    def read(typing: Any, address: Any, weights: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            address, weights = args
            values = []
            for place in range(len(fields)):
                where = pointer(builder, address, ir.Constant(LONG, place), INT)
                value = builder.sext(builder.load(where, align=4), LONG)
                if place >= parts:
                    offset = builder.mul(value, ir.Constant(LONG, 4))
                    value = builder.add(weights, offset)
                values.append(value)
            return context.make_tuple(builder, signature.return_type, values)

        return result(types.int64, types.int64), generate

    return read


read_plan: Final = _reader(Plan, "table")
read_layer: Final = _reader(Layer, "rates_real")


class Call(NamedTuple):
    """A call's plan and addresses.

    Attributes:
        plan: The plan, without the layers.
        layers: Address of the layers' part of the plan.
        weights: Address of the weights.
        arguments: Address of the arguments' addresses.
        results: Address of the results' addresses.
    """

    plan: Plan
    layers: int
    weights: int
    arguments: int
    results: int


@compiled
def call_of(addresses: int) -> Call:
    """Return the call whose arguments' and then results' addresses lie there."""
    begin, weights = load_i64(addresses, PLAN), load_i64(addresses, WEIGHTS)
    plan = read_plan(begin, weights)
    results = addresses + 8 * ARGUMENTS
    return Call(plan, begin + PLAN_BYTES, weights, addresses, results)


@compiled
def layer_of(call: Call, place: int) -> Layer:
    """Return a layer."""
    return read_layer(call.layers + LAYER_BYTES * place, call.weights)


@compiled
def row_of(call: Call, session: int) -> int:
    """Return the address of a session's row, the nearest one that there is."""
    row = load_i32(load_i64(call.arguments, ROWS), session)
    row = min(max(row, 0), call.plan.rows - 1)
    return load_i64(call.results, MOVED_POOL) + 4 * row * call.plan.width
