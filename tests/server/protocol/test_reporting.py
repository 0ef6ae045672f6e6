from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.server.protocol.messages import Closed, Flushed, Report
from saccade.server.protocol.reporting import (
    Reporter,
    Tick,
    closed,
    flushed,
    result,
    scores_of,
)

LABELS = ["left", "right"]


def ticks(*facts: tuple[int, str]) -> list[Tick]:
    """Ticks of 100 events each, from their time and top label."""
    return [
        Tick(i + 1, 100 * (i + 1), t_us, [float(label == name) for name in LABELS])
        for i, (t_us, label) in enumerate(facts)
    ]


SIX = ticks(
    (500, "left"),
    (900, "left"),
    (1_100, "right"),
    (3_500, "right"),
    (3_900, "left"),
    (4_000, "left"),
)


def reported(report: Report) -> list[int]:
    return [tick.ticks for tick in Reporter(report).select(SIX)]


def test_every_tick_is_reported_by_default():
    assert reported(Report()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [1, 2, 3, 4, 5, 6]),
        (100, [1, 2, 3, 4, 5, 6]),
        (150, [2, 3, 5, 6]),
        (200, [2, 4, 6]),
        (601, []),
    ],
)
def test_every_n_events_is_the_tick_that_completes_them(n, expected):
    assert reported(Report("events", n)) == expected


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1, 3, 4, 6]), (2, [1, 4, 6]), (1000, [1])]
)
def test_every_n_ms_is_the_first_tick_of_each_interval_of_sensor_time(n, expected):
    assert reported(Report("ms", n)) == expected


def test_on_change_is_the_first_tick_and_each_with_a_new_top_label():
    assert reported(Report("change")) == [1, 3, 5]


def test_on_flush_no_tick_is_reported():
    assert reported(Report("flush")) == []


@given(
    st.sampled_from(
        [Report(), Report("events", 130), Report("ms", 2), Report("change")]
    ),
    st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from(LABELS)), max_size=30),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_what_is_reported_does_not_depend_on_how_ticks_were_batched(
    report, facts, cuts
):
    stream = ticks(*sorted(facts))
    whole = Reporter(report).select(stream)
    edges = [0, *sorted(cuts), len(stream)]
    reporter = Reporter(report)
    pieces = [
        tick
        for start, stop in itertools.pairwise(edges)
        for tick in reporter.select(stream[start:stop])
    ]
    assert pieces == whole


def test_after_a_reset_the_first_tick_is_new_again():
    reporter = Reporter(Report("change"))
    assert reporter.select(SIX[:2]) == SIX[:1]
    reporter.reset()
    assert reporter.select(SIX[:2]) == SIX[:1]


def test_a_result_names_the_top_label_and_its_softmax():
    tick = Tick(3, 768, 5_000, np.array([0.0, math.log(3.0)], np.float32))
    message = result(tick, LABELS, seq=9)
    assert (message.seq, message.ticks, message.events) == (9, 3, 768)
    assert message.t_us == 5_000
    assert message.label == "right"
    assert message.confidence == pytest.approx(0.75)
    assert message.logits == pytest.approx([0.0, math.log(3.0)])
    assert all(type(logit) is float for logit in message.logits)


def test_large_logits_do_not_overflow_the_softmax():
    message = result(Tick(1, 1, 0, [1e4, -1e4]), LABELS, seq=1)
    assert message.confidence == 1.0


def test_before_the_first_tick_there_are_no_scores_but_a_count_of_what_waits():
    assert flushed(None, LABELS, id=4, seq=2, pending=30) == Flushed(4, 2, 0, 0, 30)
    assert closed(None, LABELS, seq=2, pending=30) == Closed(2, 0, 0, 30)


def test_flushed_and_closed_carry_the_scores_of_the_newest_tick():
    tick = SIX[2]
    scores = result(tick, LABELS, seq=2)
    for message in (
        flushed(tick, LABELS, id=4, seq=2, pending=7),
        closed(tick, LABELS, seq=2, pending=7),
    ):
        assert message.pending == 7
        for name in ("seq", "ticks", "events", "t_us", "logits", "label"):
            assert getattr(message, name) == getattr(scores, name)


@given(
    st.sampled_from(
        [
            Report(),
            Report("events", 130),
            Report("ms", 2),
            Report("change"),
            Report("flush"),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from(LABELS)), max_size=30),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_many_ticks_at_once_are_selected_as_one_by_one(report, facts, cuts):
    stream = ticks(*sorted(facts))
    by_one, by_many = Reporter(report, 100), Reporter(report, 100)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    selected = []
    for start, stop in itertools.pairwise(edges):
        part = stream[start:stop]
        t_us = np.array([tick.t_us for tick in part], np.int64)
        logits = np.array([tick.logits for tick in part], np.float32).reshape(-1, 2)
        chosen = by_many.select_many(start + 1, t_us, logits)
        assert chosen.dtype == np.int64
        selected += [part[index] for index in chosen]
    assert selected == by_one.select(stream)
    assert by_many.position == by_one.position


@given(
    st.integers(1, 40).flatmap(
        lambda classes: st.lists(
            st.lists(
                st.floats(-1e4, 1e4, width=32), min_size=classes, max_size=classes
            ),
            min_size=1,
            max_size=9,
        )
    )
)
def test_scores_of_many_ticks_are_those_of_each(rows):
    top, confidences = scores_of(np.array(rows, np.float32))
    for row, label, confidence in zip(rows, top, confidences, strict=True):
        values = np.asarray(row, np.float32).astype(np.float64)
        assert label == int(np.argmax(values))
        assert confidence == 1.0 / float(np.exp(values - values.max()).sum())
