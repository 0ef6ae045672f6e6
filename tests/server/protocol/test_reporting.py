from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.server.protocol.messages import Closed, Flushed, Report
from saccade.server.protocol.reporting import Reporter, Tick, closed, flushed, result

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
