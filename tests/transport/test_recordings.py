"""Recordings in memory become the same tokens, and errors, whichever way they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.encodings.packed import pack, records, unpack_records
from saccade.model.events.errors import EventsError
from saccade.model.events.fit import fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Tolerance
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import Tokenization
from saccade.server.transport.classify_bodies import Choices
from saccade.server.transport.problems import Problem, from_events
from saccade.server.transport.recordings import Preparation, groups_of

SOURCES = [Sensor(4, 3), Sensor(9, 9), Sensor(4, 3, 1)]
MODEL = Tokenization("linear", Sensor(4, 3))


@st.composite
def events(draw: Any) -> Events:
    """Draw a recording that may be out of order, or outside a sensor."""
    rows = st.tuples(
        st.integers(0, 50), st.integers(0, 9), st.integers(0, 9), st.integers(0, 1)
    )
    found = np.array(draw(st.lists(rows, max_size=8)), EVENT_DTYPE)
    if draw(st.booleans()):
        found["t"].sort()
    if draw(st.booleans()):
        found["x"] %= 4
        found["y"] %= 3
    return found


CHOICES = st.builds(
    Choices,
    model=st.just("any"),
    fit=st.sampled_from(["reject", "scale", "crop"]),
    invalid=st.sampled_from(["reject", "skip"]),
    sort_within_us=st.sampled_from([0, 9]),
)


def expected(given: Events, choices: Choices, source: Sensor) -> Any:
    tolerance = Tolerance(source, choices.invalid, choices.sort_within_us)
    try:
        valid = tolerance.whole(given)
        fitted = fit(valid, source, MODEL.sensor, choices.fit)
    except EventsError as error:
        return from_events(error, 3).document()
    tokens, t_us = MODEL.timed(fitted)
    return tokens.tolist(), t_us.tolist(), tolerance.skipped


def prepared(given: Any, choices: Choices, source: Sensor) -> Any:
    try:
        (found,) = Preparation(choices, source, MODEL).prepare([given], 3)
    except Problem as problem:
        return problem.document()
    assert not isinstance(found, Problem)
    return found.chunk.tokens.tolist(), found.chunk.t_us.tolist(), found.skipped


@given(events(), CHOICES, st.sampled_from(SOURCES))
def test_a_recording_has_the_tokens_and_errors_of_its_checks_one_by_one(
    given: Events, choices: Choices, source: Sensor
) -> None:
    wanted = expected(given.copy(), choices, source)
    assert prepared(given.copy(), choices, source) == wanted
    packed = records(pack(given, 0))
    assert unpack_records(packed, 0).tolist() == given.tolist()
    assert prepared(packed, choices, source) == wanted


def test_a_partial_request_has_a_problem_in_place_of_what_does_not_pass() -> None:
    good = np.array([(0, 1, 1, 0)], EVENT_DTYPE)
    outside = np.array([(0, 9, 1, 0)], EVENT_DTYPE)
    group = [good, outside, Problem(422, "malformed_events", "no events"), good]
    partial = Preparation(Choices(model="any", partial=True), MODEL.sensor, MODEL)
    found = partial.prepare(group, 7)
    assert [isinstance(each, Problem) for each in found] == [False, True, True, False]
    assert isinstance(found[1], Problem)
    assert found[1].facts["recording"] == 8
    whole = Preparation(Choices(model="any"), MODEL.sensor, MODEL)
    with pytest.raises(Problem) as caught:
        whole.prepare(group, 7)
    assert caught.value.code == "event_outside_sensor"


@given(st.lists(st.integers(0, 20), max_size=20), st.integers(1, 30))
def test_groups_hold_every_recording_once_and_in_order(
    sizes: list[int], least: int
) -> None:
    recordings = [np.zeros(size, EVENT_DTYPE) for size in sizes]
    groups = [recordings[part] for part in groups_of(recordings, least)]
    assert [len(each) for group in groups for each in group] == sizes
    assert all(groups)
    for group in groups[:-1]:
        assert sum(map(len, group)) >= least > sum(map(len, group[:-1]))
