"""The variant is drawn too: scan ≡ step ≡ advance, from events to scores."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from saccade.model import classifier, inference
from saccade.model.classifier import Classifier
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import TimestepConvention, TokenChunk, Tokenization, Tokenizer
from tests.model.variants import random_variables, small

TOLERANCE = 1e-9  # of max |logit|, float64: what is left is no matter of rounding
SLOTS = 3
TICKS = 2  # the most that a session moves in one call
LONGEST_TICK = 64

# Compiling a variant takes seconds, so a failure is reported as it was drawn.
drawing = functools.partial(
    settings,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Variant(NamedTuple):
    """A network and how events reach it."""

    config: ModelConfig
    tokenization: Tokenization
    timestep: TimestepConvention


@st.composite
def variants(draw: Any) -> Variant:
    """Draw any variant whose tick is short enough to be stepped event by event."""
    stages = draw(st.integers(1, 3))
    strides = [stride for stride in range(1, 33) if stride**stages <= LONGEST_TICK]
    wide = draw(st.booleans())
    sensor = draw(st.sampled_from([Sensor(7, 5), Sensor(40, 1, polarities=1)]))
    tokenization = Tokenization(
        draw(st.sampled_from(["linear", "product"])), sensor, draw(st.integers(1, 2))
    )
    config = small(
        num_embeddings=tokenization.num_tokens,
        discretization=draw(st.sampled_from(["zoh", "dirac", "async"])),
        pooling_mode=draw(st.sampled_from(["last", "avgpool", "timepool"])),
        classification_mode=draw(st.sampled_from(["pool", "timepool", "last"])),
        conj_sym=draw(st.booleans()),
        batchnorm=draw(st.booleans()),
        prenorm=draw(st.booleans()),
        clip_eigs=draw(st.booleans()),
        step_rescale=draw(st.sampled_from([0.5, 1.0, 2.0])),
        state_expansion_factor=2 if wide else 1,
        num_stages=stages,
        num_layers_per_stage=draw(st.integers(1, 2)),
        pooling_stride=draw(st.sampled_from(strides)),
    )
    return Variant(
        config, tokenization, draw(st.sampled_from(["preceding", "following"]))
    )


@st.composite
def streams(draw: Any, sensor: Sensor, longest: int) -> Events:
    """Draw a stream of events: bursts of simultaneous ones, and pauses of minutes."""
    length = draw(st.integers(0, longest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gaps_us = rng.exponential(draw(st.sampled_from([10.0, 1e3, 3e4])), length)
    gaps_us[rng.random(length) < draw(st.sampled_from([0.0, 0.5]))] = 0.0
    gaps_us[rng.random(length) < draw(st.sampled_from([0.0, 0.05]))] = 2e8
    events = np.empty(length, EVENT_DTYPE)
    events["t"] = draw(st.sampled_from([0, 2**55])) + np.cumsum(
        gaps_us.astype(np.int64)
    )
    events["x"] = rng.integers(0, sensor.width, length)
    events["y"] = rng.integers(0, sensor.height, length)
    events["p"] = rng.integers(0, sensor.polarities, length)
    return events


class Runner:
    """One variant's three functions, each compiled for one shape."""

    def __init__(self, variant: Variant, longest: int) -> None:
        config = self.config = variant.config
        self.longest = longest
        self.variables = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), random_variables(config)
        )
        self.weights = classifier.fold(config, self.variables)
        self.fresh = classifier.init_state(config, self.variables)
        self._scan = jax.jit(functools.partial(Classifier(config).apply, train=False))
        self._advance = jax.jit(functools.partial(inference.advance, config))

        @jax.jit
        def walk(weights: Any, state: Any, tokens: Any, dt_ms: Any, count: Any) -> Any:
            def move(carried: Any, event: Any) -> Any:
                place, state = carried
                after, logits, ticked = inference.step(config, weights, state, *event)
                live = place < count
                state = jax.tree.map(lambda a, b: jnp.where(live, a, b), after, state)
                return (place + 1, state), (logits, ticked & live)

            start = (jnp.int32(0), state)
            (_, state), seen = jax.lax.scan(move, start, (tokens, dt_ms))
            return state, seen

        self._walk = walk

    def padded(self, parts: list[Any], length: int, filler: Any) -> Any:
        rows = np.full((len(parts), length), filler, parts[0].dtype)
        for row, part in zip(rows, parts, strict=True):
            row[: len(part)] = part
        return rows

    def scan(self, chunks: list[TokenChunk]) -> np.ndarray[Any, Any]:
        """Score whole streams side by side; what pads them is nonsense."""
        tokens = self.padded([c.tokens for c in chunks], self.longest, -1)
        dt_ms = self.padded([c.dt_ms for c in chunks], self.longest, 77.0)
        lengths = np.asarray([len(chunk.tokens) for chunk in chunks])
        return np.asarray(self._scan(self.variables, tokens, dt_ms, lengths))

    def step(self, pieces: list[TokenChunk]) -> list[np.ndarray[Any, Any]]:
        """Take one event after another; return the logits of each tick."""
        state, ticks = self.fresh, []
        for piece in pieces:
            tokens = self.padded([piece.tokens], self.longest, 0)[0]
            dt_ms = self.padded([piece.dt_ms], self.longest, 0.0)[0]
            count = np.int32(len(piece.tokens))
            state, (logits, ticked) = self._walk(
                self.weights, state, tokens, dt_ms, count
            )
            ticks += list(np.asarray(logits)[np.asarray(ticked)])
        return ticks

    def advance(self, carry: Any, chunks: list[TokenChunk]) -> tuple[Any, Any]:
        """Move each slot by the whole ticks of its chunk."""
        length = TICKS * self.config.tick_events
        tokens = self.padded([c.tokens for c in chunks], length, 0)
        dt_ms = self.padded([c.dt_ms for c in chunks], length, 0.0)
        ticks = [len(chunk.tokens) // self.config.tick_events for chunk in chunks]
        return self._advance(
            self.weights, carry, tokens, dt_ms, np.asarray(ticks, np.int32)
        )

    def pool(self) -> Any:
        return jax.tree.map(lambda x: jnp.stack([x] * SLOTS), self.fresh.carry)


def deviation(a: Any, b: Any) -> float:
    scale = max(float(np.abs(b).max()), 1e-3)
    return float(np.abs(np.asarray(a) - np.asarray(b)).max()) / scale


def joined(pieces: list[TokenChunk]) -> TokenChunk:
    return TokenChunk(*(np.concatenate(part) for part in zip(*pieces, strict=True)))


def exact(chunk: TokenChunk) -> TokenChunk:
    return chunk._replace(dt_ms=chunk.dt_ms.astype(np.float64))


def cut(chunk: TokenChunk, start: int, end: int) -> TokenChunk:
    return TokenChunk(*(part[start:end] for part in chunk))


def check(variant: Variant, data: Any) -> None:
    """Hold one drawn variant's three functions to one another."""
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        compare(variant, data)


def compare(variant: Variant, data: Any) -> None:
    tick = variant.config.tick_events
    longest = 3 * tick + tick // 2 + 1
    sensor = variant.tokenization.sensor
    sources = [data.draw(streams(sensor, longest)) for _ in range(SLOTS)]
    cuts = data.draw(st.lists(st.integers(0, longest), max_size=4))
    run = Runner(variant, longest)
    wholes, pieces = [], []
    for events in sources:
        whole, online = (
            Tokenizer(variant.tokenization, variant.timestep) for _ in range(2)
        )
        wholes.append(exact(whole.feed(events)))
        borders = [0, *sorted(min(c, len(events)) for c in cuts), len(events)]
        pieces.append(
            [exact(online.feed(events[a:b])) for a, b in itertools.pairwise(borders)]
        )
        assert online.held_back == (variant.timestep == "following" and len(events) > 0)
        for ours, theirs in zip(joined(pieces[-1]), wholes[-1], strict=True):
            assert np.array_equal(ours, theirs)
    scanned = run.scan(wholes)
    stepped = [run.step(parts) for parts in pieces]
    advanced = in_turns(run, wholes, data)
    for slot, whole in enumerate(wholes):
        ticks = len(whole.tokens) // tick
        assert len(stepped[slot]) == len(advanced[slot]) == ticks
        for one, other in zip(stepped[slot], advanced[slot], strict=True):
            assert deviation(one, other) <= TOLERANCE
        if ticks:
            assert deviation(stepped[slot][-1], scanned[slot]) <= TOLERANCE


def in_turns(run: Runner, wholes: list[TokenChunk], data: Any) -> list[list[Any]]:
    """Move the slots of one pool by drawn numbers of ticks; return all scores."""
    tick, carry = run.config.tick_events, run.pool()
    taken, scores = [0] * SLOTS, [[] for _ in range(SLOTS)]  # type: ignore[var-annotated]
    while any(
        left := [len(w.tokens) // tick - t for w, t in zip(wholes, taken, strict=True)]
    ):
        turn = [data.draw(st.integers(0, min(n, TICKS))) for n in left]
        turn = turn if any(turn) else [min(n, 1) for n in left]
        parts = [
            cut(whole, tick * t, tick * (t + n))
            for whole, t, n in zip(wholes, taken, turn, strict=True)
        ]
        before = carry
        carry, logits = run.advance(carry, parts)
        for slot, n in enumerate(turn):
            taken[slot] += n
            scores[slot] += list(np.asarray(logits[slot, :n]))
            if n == 0:
                assert row(before, slot) == row(carry, slot), "an idle row has moved"
    return scores


def row(carry: Any, slot: int) -> list[bytes]:
    return [np.asarray(leaf[slot]).tobytes() for leaf in jax.tree.leaves(carry)]


@pytest.mark.slow
@drawing(max_examples=3, derandomize=True)
@given(variants(), st.data())
def test_a_few_drawn_variants_score_alike_in_scan_step_and_advance(
    variant: Variant, data: Any
) -> None:
    check(variant, data)


@pytest.mark.slow
@drawing(max_examples=30)
@given(variants(), st.data())
def test_drawn_variants_score_alike_in_scan_step_and_advance(
    variant: Variant, data: Any
) -> None:
    check(variant, data)
