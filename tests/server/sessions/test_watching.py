"""What a watcher is shown of the frames that a session takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings.packed import pack, records, unpack
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import TimedTokens
from saccade.server.protocol.messages import Open
from saccade.server.protocol.reporting import Tick
from saccade.server.protocol.watching import (
    WatchedEvents,
    WatchedReset,
    WatchedResult,
    WatchEnded,
    Watching,
)
from saccade.server.sessions.handle import SessionHandle
from saccade.server.sessions.watching import PENDING_EVENTS, Watch
from tests.toy import SENSOR, toy_model


def session_of(**fields: Any) -> Any:
    opening = Open("toy", **fields)
    handle = SessionHandle("name")
    return SimpleNamespace(
        opening=opening, handle=handle, model=toy_model(), newest=None
    )


def events_at(times: list[int]) -> Events:
    events = np.zeros(len(times), EVENT_DTYPE)
    events["t"] = times
    events["x"], events["y"] = np.arange(len(times)) % 4, np.arange(len(times)) // 4 % 4
    events["p"] = np.arange(len(times)) % 2
    return events


def take(watch: Watch, events: Events, bits: int | None = None) -> None:
    """Give a watch a frame of packed records, as a session does."""
    first_us = int(events["t"][0]) if len(events) else 0
    base = first_us if bits is None else first_us & ((1 << bits) - 1)
    payload = records(pack(events, first_us))
    chunk = TimedTokens(np.zeros(len(events), np.int32), events["t"].copy())
    watch.take(payload, base, chunk)


def shown(messages: list[Any]) -> Events:
    parts = [
        unpack(message.data, message.t_base_us)
        for message in messages
        if isinstance(message, WatchedEvents)
    ]
    return np.concatenate(parts) if parts else np.empty(0, EVENT_DTYPE)


frames_of_times = st.lists(
    st.lists(st.integers(0, 10**6), max_size=30).map(sorted), min_size=1, max_size=20
)


@given(frames_of_times, st.integers(1, 400))
def test_what_is_shown_is_a_part_of_what_came_in_its_order(frames, most):
    watch = Watch(session_of(), most * 4, 0.0)
    sent = [events_at(times) for times in frames]
    for events in sent:
        take(watch, events)
    messages = watch.collect(0.25)
    everything, seen = np.concatenate(sent), shown(messages)
    assert len(seen) == min(len(everything), most)
    left = iter(everything.tolist())
    assert all(event in left for event in seen.tolist()), "a subsequence"
    if len(everything):
        assert sum(m.of for m in messages if isinstance(m, WatchedEvents)) == len(
            everything
        )


@given(frames_of_times)
def test_events_of_a_raw_decoder_are_shown_as_packed_ones_are(frames):
    packed, raw = (Watch(session_of(), 100_000, 0.0) for _ in range(2))
    for times in frames:
        events = events_at(times)
        take(packed, events)
        raw.take(events, 0, TimedTokens(np.zeros(0, np.int32), events["t"]))
    assert packed.collect(1.0) == raw.collect(1.0)


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60))
def test_the_times_of_a_clock_that_wraps_count_on(steps):
    times = np.cumsum([70_000, *steps]).tolist()
    watch = Watch(session_of(clock_bits=16), 100_000, 0.0)
    for start in range(0, len(times), 7):
        take(watch, events_at(times[start : start + 7]), bits=16)
    assert shown(watch.collect(1.0))["t"].tolist() == times


def test_no_more_is_shown_than_was_asked_for():
    watch = Watch(session_of(), 1_000, 0.0)
    seen, now_s = 0, 0.0
    for _ in range(100):
        now_s += 0.05
        take(watch, events_at([*range(5_000)]))
        seen += len(shown(watch.collect(now_s)))
    assert 0.9 * 1_000 * now_s < seen <= 1_000 * (now_s + 0.25) + 1


@given(st.integers(1, 300), st.integers(1, 60), st.integers(100, 100_000))
def test_of_many_small_frames_some_are_kept_and_all_are_counted(frames, size, rate):
    watch, told = Watch(session_of(), rate, 0.0), 0
    payload = records(pack(events_at([0] * size), 0))
    chunk = TimedTokens(np.zeros(size, np.int32), np.zeros(size, np.int64))
    for period in range(1, 5):
        for _ in range(frames):
            watch.take(payload, 0, chunk)
        messages = watch.collect(period / 4)
        events = [m for m in messages if isinstance(m, WatchedEvents)]
        told += sum(message.of for message in events)
        kept = sum(len(message.data) // 8 for message in events)
        assert kept >= min(rate / 30, 2 * size, frames * size) - 1 or period == 1
    assert told == 4 * frames * size


def test_what_a_slow_watcher_misses_is_bounded_and_counted():
    watch = Watch(session_of(), 100, 0.0)
    size = PENDING_EVENTS // 4
    for _ in range(6):
        take(watch, events_at([0] * size))
    (found,) = (m for m in watch.collect(9.0) if isinstance(m, WatchedEvents))
    assert (found.of, found.missed) == (4 * size, 2 * size)


def test_events_that_the_session_skips_are_not_shown_outside_its_sensor():
    watch = Watch(session_of(invalid="skip", sensor=Sensor(3, 4)), 100, 0.0)
    take(watch, events_at([*range(8)]))
    seen = shown(watch.collect(1.0))
    assert len(seen) == 6
    assert seen["x"].max() == 2


def test_the_first_message_says_what_is_watched_and_the_last_that_it_ended():
    session = session_of(sensor=Sensor(8, 8), fit="scale")
    watch = Watch(session, 100, 0.0)
    session.newest = Tick(2, 4, 77, np.array([1.0, 3.0]))
    watch.end("away")
    first, result, last = watch.collect(1.0)
    assert isinstance(first, Watching)
    assert (first.sensor, first.model_sensor) == (Sensor(8, 8), SENSOR)
    assert isinstance(result, WatchedResult)
    assert (result.ticks, result.events, result.t_us) == (2, 4, 77)
    assert result.label == session.model.labels[1]
    assert last == WatchEnded("away")
    assert watch.ended
    assert watch.collect(2.0) == []


def test_after_a_reset_nothing_of_before_is_shown():
    session = session_of()
    watch = Watch(session, 100, 0.0)
    watch.collect(0.1)
    take(watch, events_at([5, 6]))
    session.newest = None
    watch.reset()
    take(watch, events_at([1]))
    reset, events = watch.collect(1.0)
    assert reset == WatchedReset()
    assert shown([events])["t"].tolist() == [1]


def test_the_same_scores_are_shown_once():
    session = session_of()
    session.newest = Tick(1, 2, 3, np.array([1.0, 0.0]))
    watch = Watch(session, 100, 0.0)
    assert len(watch.collect(0.1)) == 2
    assert watch.collect(0.2) == []
    session.newest = Tick(2, 4, 5, np.array([1.0, 0.0]))
    assert [message.ticks for message in watch.collect(0.3)] == [2]


@pytest.mark.parametrize("pause_us", [1 << 32, 1 << 40])
def test_a_long_pause_between_frames_is_no_fault(pause_us):
    watch = Watch(session_of(), 100, 0.0)
    take(watch, events_at([0]))
    take(watch, events_at([pause_us]))
    assert shown(watch.collect(1.0))["t"].tolist() == [0]
