"""scan ≡ step ≡ advance, however a stream is cut and whoever shares the pool."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks.sequential import Network
from tests.model.variants import VARIANTS, Compiled, compiled

TOLERANCE = 2e-5  # of max |logit|, float32

variant = pytest.mark.parametrize("index", range(len(VARIANTS)))
few = settings(max_examples=12)


@st.composite
def streams(draw: Any, longest: int = Compiled.LENGTH) -> tuple[Any, Any]:
    """Draw a stream of tokens and gaps, simultaneous events and long pauses too."""
    length = draw(st.integers(0, longest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gaps = rng.exponential(draw(st.sampled_from([0.01, 1.0, 30.0])), length)
    gaps[rng.random(length) < draw(st.sampled_from([0.0, 0.5]))] = 0.0
    return rng.integers(0, 50, length).astype(np.int32), gaps.astype(np.float32)


@st.composite
def cuts(draw: Any, length: int) -> list[int]:
    """Draw borders that cut a stream, empty chunks and single events included."""
    places = draw(st.lists(st.integers(0, length), max_size=8))
    return [0, *sorted(places), length]


def close(a: Any, b: Any) -> bool:
    scale = max(float(np.abs(b).max()), 1e-3)
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) <= TOLERANCE * scale


@variant
@few
@given(data=st.data())
def test_step_by_step_a_stream_scores_as_the_whole_sequence_does(
    index: int, data: Any
) -> None:
    model = compiled(index)
    tokens, dt_ms = data.draw(streams())
    _, ticks = model.step(tokens, dt_ms)
    assert len(ticks) == len(tokens) // model.config.tick_events
    for count, logits in enumerate(ticks, start=1):
        end = count * model.config.tick_events
        assert close(logits, model.scan(tokens[:end], dt_ms[:end]))


@variant
@few
@given(data=st.data())
def test_events_after_the_last_whole_tick_change_no_score(
    index: int, data: Any
) -> None:
    model = compiled(index)
    tokens, dt_ms = data.draw(streams())
    whole = len(tokens) // model.config.tick_events * model.config.tick_events
    assert np.array_equal(
        model.scan(tokens, dt_ms), model.scan(tokens[:whole], dt_ms[:whole])
    )


@variant
@few
@given(data=st.data())
def test_sessions_that_share_a_pool_score_as_if_alone(index: int, data: Any) -> None:
    """Each slot gets its own stream, cut at its own places, moved in turns."""
    model = compiled(index)
    tick = model.config.tick_events
    sources = [data.draw(streams()) for _ in range(model.SLOTS)]
    carry = model.pool()
    taken = [0] * model.SLOTS
    newest: list[Any] = [None] * model.SLOTS
    while True:
        left = [(len(s[0]) - t) // tick for s, t in zip(sources, taken, strict=True)]
        if not any(left):
            break
        ticks = [data.draw(st.integers(0, min(n, model.TICKS))) for n in left]
        if not any(ticks):
            ticks = [min(n, 1) for n in left]
        chunks = {
            slot: tuple(part[taken[slot] : taken[slot] + n * tick] for part in source)
            for slot, (source, n) in enumerate(zip(sources, ticks, strict=True))
        }
        before = carry
        carry, logits = model.advance(carry, chunks, ticks)
        for slot, n in enumerate(ticks):
            taken[slot] += n * tick
            if n:
                newest[slot] = np.asarray(logits[slot, n - 1])
            else:
                assert rows_equal(before, carry, slot)
    for (tokens, dt_ms), logits in zip(sources, newest, strict=True):
        if logits is not None:
            assert close(logits, model.scan(tokens, dt_ms))


def rows_equal(before: Any, after: Any, slot: int) -> bool:
    """Say whether a slot's row is the same, bit for bit."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all(
        np.asarray(old[slot]).tobytes() == np.asarray(new[slot]).tobytes()
        for old, new in pairs
    )


@variant
@few
@given(data=st.data())
def test_a_stream_may_be_cut_anywhere_even_inside_a_stride_group(
    index: int, data: Any
) -> None:
    model = compiled(index)
    tokens, dt_ms = data.draw(streams(longest=40))
    borders = data.draw(cuts(len(tokens)))
    state, scores = model.fresh, []
    for start, end in itertools.pairwise(borders):
        state, ticks = model.step(tokens[start:end], dt_ms[start:end], state)
        scores += ticks
    whole, together = model.step(tokens, dt_ms)
    assert rows_equal(
        jax.tree.map(lambda x: x[None], state),
        jax.tree.map(lambda x: x[None], whole),
        0,
    )
    assert np.array_equal(np.asarray(scores), np.asarray(together))


@variant
def test_a_state_has_the_same_size_however_long_the_stream(index: int) -> None:
    model = compiled(index)
    rng = np.random.default_rng(1)
    state, _ = model.step(rng.integers(0, 50, 70), rng.exponential(1.0, 70))
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(model.fresh)]


@variant
def test_a_gap_of_hours_costs_no_precision_to_what_follows(index: int) -> None:
    """In the middle of a stride group; the truth is float64, event by event."""
    model = compiled(index)
    tick = model.config.tick_events
    length = model.LENGTH // tick * tick
    rng = np.random.default_rng(index)
    tokens = rng.integers(0, 50, length).astype(np.int32)
    dt_ms = rng.exponential(1.0, length).astype(np.float32)
    dt_ms[length - tick // 2 - 1] = 2 * 3.6e6
    truth = Network(model.config, model.variables).feed(
        tokens, dt_ms.astype(np.float64)
    )
    assert close(model.scan(tokens, dt_ms), truth)
    _, ticks = model.step(tokens, dt_ms)
    assert close(ticks[-1], truth)
    carry = model.pool()
    for start in range(0, length, tick):
        part = slice(start, start + tick)
        chunks = {1: (tokens[part], dt_ms[part])}
        carry, logits = model.advance(carry, chunks, [0, 1, 0])
    assert close(logits[1, 0], truth)
