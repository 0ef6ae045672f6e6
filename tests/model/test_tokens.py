"""Tokens and gaps are the same however a stream is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE
from saccade.model.tokens import GapCounter, Tokenization, Tokenizer

SENSOR = Sensor(6, 4)


def stream(*rows: tuple[int, int, int, int]) -> Any:
    return np.array(list(rows), EVENT_DTYPE)


@st.composite
def streams(draw: Any) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    events = np.zeros(draw(st.integers(0, 40)), EVENT_DTYPE)
    events["t"] = np.cumsum(rng.integers(0, 2000, len(events)))
    events["x"] = rng.integers(0, SENSOR.width, len(events))
    events["y"] = rng.integers(0, SENSOR.height, len(events))
    events["p"] = rng.integers(0, 2, len(events))
    return events


def test_linear_tokens_count_along_x_then_y_then_polarity() -> None:
    events = stream(
        (0, 0, 0, 0), (1, 5, 0, 0), (2, 0, 1, 0), (3, 0, 0, 1), (4, 5, 3, 1)
    )
    tokens = Tokenization("linear", SENSOR).tokenize(events)
    assert tokens.tolist() == [0, 5, 6, 24, 47]
    assert Tokenization("linear", SENSOR).num_tokens == 48


def test_product_tokens_are_those_of_the_reference() -> None:
    events = stream((0, 5, 3, 0), (1, 5, 3, 1), (2, 0, 3, 1))
    tokens = Tokenization("product", SENSOR).tokenize(events)
    assert tokens.tolist() == [15, 39, 24]


def test_a_cochlea_has_a_token_per_channel() -> None:
    tokenization = Tokenization("linear", Sensor(700, 1, 1))
    assert tokenization.num_tokens == 700
    assert tokenization.tokenize(stream((0, 699, 0, 1))).tolist() == [699]


def test_downsampling_rounds_the_grid_up() -> None:
    tokenization = Tokenization("linear", Sensor(5, 3), downsample=2)
    assert (tokenization.width, tokenization.height) == (3, 2)
    assert tokenization.tokenize(stream((0, 4, 2, 0))).tolist() == [5]


@given(streams())
def test_tokens_lie_in_the_vocabulary(events: Any) -> None:
    for scheme in ("linear", "product"):
        tokenization = Tokenization(scheme, SENSOR)
        tokens = tokenization.tokenize(events)
        assert tokens.dtype == np.int32
        assert np.all((tokens >= 0) & (tokens < tokenization.num_tokens))


def test_preceding_pairs_an_event_with_the_gap_before_it() -> None:
    tokenizer = Tokenizer(Tokenization("linear", SENSOR), "preceding")
    chunk = tokenizer.feed(stream((1000, 1, 0, 0), (1500, 2, 0, 0), (4500, 3, 0, 0)))
    assert chunk.tokens.tolist() == [1, 2, 3]
    assert chunk.dt_ms.tolist() == [0.0, 0.5, 3.0]
    assert chunk.t_us.tolist() == [1000, 1500, 4500]


def test_following_pairs_an_event_with_the_gap_after_it_and_holds_the_newest() -> None:
    tokenizer = Tokenizer(Tokenization("linear", SENSOR), "following")
    chunk = tokenizer.feed(stream((1000, 1, 0, 0), (1500, 2, 0, 0), (4500, 3, 0, 0)))
    assert chunk.tokens.tolist() == [1, 2]
    assert chunk.dt_ms.tolist() == [0.5, 3.0]
    assert tokenizer.held_back == 1


@pytest.mark.parametrize("timestep", ["preceding", "following"])
@given(events=streams(), places=st.lists(st.integers(0, 40), max_size=6))
def test_cutting_a_stream_changes_neither_tokens_nor_gaps(
    timestep: Any, events: Any, places: list[int]
) -> None:
    tokenization = Tokenization("linear", SENSOR)
    whole = Tokenizer(tokenization, timestep).feed(events)
    tokenizer = Tokenizer(tokenization, timestep)
    borders = [0, *sorted(min(place, len(events)) for place in places), len(events)]
    parts = [tokenizer.feed(events[start:end]) for start, end in pairwise(borders)]
    for name in ("tokens", "dt_ms", "t_us"):
        together = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(together, getattr(whole, name))


def test_epoch_timestamps_keep_their_microseconds() -> None:
    tokenizer = Tokenizer(Tokenization("linear", SENSOR), "preceding")
    start = 1_700_000_000_000_000
    chunk = tokenizer.feed(stream((start, 0, 0, 0), (start + 1, 0, 0, 0)))
    assert chunk.dt_ms.tolist() == [0.0, np.float32(0.001)]


@pytest.mark.parametrize(
    ("timestep", "gaps_ms"), [("preceding", [0, 1, 0]), ("following", [1, 0])]
)
def test_no_gap_is_negative_where_time_comes_back_from_a_false_step(
    timestep: Any, gaps_ms: list[float]
) -> None:
    tokenizer = Tokenizer(Tokenization("linear", SENSOR), timestep)
    parts = [stream((5, 0, 0, 0), (1_005, 0, 0, 0)), stream((10, 1, 0, 0))]
    chunks = [tokenizer.feed(part) for part in parts]
    assert np.concatenate([each.dt_ms for each in chunks]).tolist() == gaps_ms


def test_after_a_reset_the_next_event_has_no_predecessor() -> None:
    tokenizer = Tokenizer(Tokenization("linear", SENSOR), "preceding")
    tokenizer.feed(stream((1000, 1, 0, 0)))
    tokenizer.reset()
    assert tokenizer.feed(stream((5, 1, 0, 0))).dt_ms.tolist() == [0.0]


def test_a_grid_finer_than_the_sensor_is_refused() -> None:
    with pytest.raises(ValueError, match="downsample 0"):
        Tokenization("linear", SENSOR, downsample=0)


@pytest.mark.parametrize("timestep", ["preceding", "following"])
@given(events=streams(), place=st.integers(0, 40))
def test_another_gap_counter_goes_on_from_the_newest_event(
    timestep: Any, events: Any, place: int
) -> None:
    tokenization = Tokenization("linear", SENSOR)
    whole = Tokenizer(tokenization, timestep).feed(events)
    first, second = (GapCounter(timestep) for _ in range(2))
    before = first.feed(tokenization.timed(events[:place]))
    second.resume(first.newest)
    assert second.held_back == first.held_back
    after = second.feed(tokenization.timed(events[place:]))
    for name in ("tokens", "dt_ms", "t_us"):
        together = np.concatenate([getattr(before, name), getattr(after, name)])
        assert np.array_equal(together, getattr(whole, name))
