"""Which streams have little beside the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.server.engine.tick_shares import (
    RECENT_S,
    TYPICAL_TICKS,
    RecentTicks,
    TickShares,
)

TURN_S = 0.01


def played(
    ticks: list[int], seconds: float, seed: int = 0
) -> tuple[TickShares, list[RecentTicks], float]:
    """Score so many ticks of each stream in each turn, the streams in any order."""
    shares, streams = TickShares(), [RecentTicks() for _ in ticks]
    rng, now_s = np.random.default_rng(seed), 100.0
    for _ in range(round(seconds / TURN_S)):
        for k in rng.permutation(len(ticks)).tolist():
            now_s += TURN_S / len(ticks)
            shares.count(streams[k], ticks[k], now_s)
    return shares, streams, now_s


@given(st.integers(4, 64), st.integers(1, 60), st.integers(0, 99))
def test_of_streams_that_have_equally_much_none_has_little(
    ticks: int, streams: int, seed: int
) -> None:
    shares, each, now_s = played([ticks] * streams, 1.0, seed)
    assert not any(shares.has_little(one, now_s) for one in each)


@given(st.integers(8, 64), st.integers(1, 30), st.floats(0.0, 0.45), st.integers(0, 99))
def test_one_that_has_less_than_half_of_the_others_has_little(
    ticks: int, others: int, part: float, seed: int
) -> None:
    shares, each, now_s = played([int(part * ticks), *[ticks] * others], 2.0, seed)
    assert shares.has_little(each[0], now_s)
    assert not any(shares.has_little(one, now_s) for one in each[1:])


def test_one_that_is_alone_does_not_have_little_of_what_there_is() -> None:
    shares, (alone,), now_s = played([10], 2.0)
    assert not shares.has_little(alone, now_s)


def test_before_anything_is_scored_none_has_little() -> None:
    assert not TickShares().has_little(RecentTicks(), 0.0)


def test_what_was_scored_long_ago_does_not_count() -> None:
    recent = RecentTicks()
    assert recent.add(10, 5.0) == 10
    assert recent.at(5.0 + RECENT_S) == pytest.approx(10 / np.e)
    assert recent.at(5.0 + 100 * RECENT_S) < 1e-9


def test_what_is_typical_follows_in_some_turns() -> None:
    shares, (one, other), now_s = played([50, 5], 2.0)
    assert shares.has_little(other, now_s)
    for _ in range(TYPICAL_TICKS):  # five times as many ticks
        now_s += TURN_S
        shares.count(other, 5, now_s)
    assert not shares.has_little(other, now_s)
    assert shares.has_little(one, now_s)
