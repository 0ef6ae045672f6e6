"""Sensors, reports, readouts and events in each form whose meaning is plain."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.clients.connection import opening_of
from saccade.clients.conversion import to_events, to_readout, to_report, to_sensor
from saccade.clients.endpoint import authorization
from saccade.clients.errors import InvalidChoice
from saccade.model.events.errors import NotEvents, SaccadeError
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.messages import ReadoutWindow, Report
from tests.clients.scripted import moving


@pytest.mark.parametrize(
    "given", [Sensor(640, 480), (640, 480), [640, 480], "640x480", (640, 480, 2)]
)
def test_a_sensor_may_be_its_sides(given):
    assert to_sensor(given) == Sensor(640, 480)


@pytest.mark.parametrize("given", [640, (640,), "wide", (0, 480), (640, 480, 3)])
def test_what_is_no_sensor_is_told_what_to_give(given):
    with pytest.raises(InvalidChoice, match=r"sensor: .*'640x480'"):
        to_sensor(given)


@pytest.mark.parametrize(
    "given", [Report("ms", 100), ("ms", 100), {"every": "ms", "n": 100}]
)
def test_a_report_may_be_a_tuple_or_a_dict(given):
    assert to_report(given) == Report("ms", 100)
    assert to_report("flush") == Report("flush")


@pytest.mark.parametrize("given", [5, {"evry": "ms"}, ("ms", 1, 2)])
def test_what_is_no_report_is_told_what_to_give(given):
    with pytest.raises(InvalidChoice, match=r"report: .*'tick'"):
        to_report(given)


def test_a_readout_may_be_a_string_or_a_tuple():
    assert to_readout("session") == ReadoutWindow()
    assert to_readout(("half_life", 300)) == ReadoutWindow("half_life", 300)


def test_a_choice_of_another_name_is_refused_before_a_connection():
    with pytest.raises(InvalidChoice, match="sensr: is no choice"):
        opening_of("toy", {"sensr": (1, 1)})


EVENTS = moving(3, start_us=7)
COLUMNS = {name: EVENTS[name] for name in "txyp"}


class Frame:
    """A data frame, as far as `to_events` looks at one."""

    def to_records(self, *, index: bool) -> np.ndarray:
        assert not index
        return EVENTS.view(np.recarray)


@pytest.mark.parametrize(
    "given",
    [
        EVENTS,
        COLUMNS,
        {name: column.tolist() for name, column in COLUMNS.items()},
        {"timestamp": COLUMNS["t"], "x": [0, 1, 2], "y": [0, 0, 0], "on": [0, 1, 0]},
        [tuple(event) for event in EVENTS.tolist()],
        EVENTS.tolist(),
        Frame(),
    ],
    ids=["array", "columns", "lists", "other names", "tuples", "rows", "frame"],
)
def test_events_may_come_in_any_plain_form(given):
    assert np.array_equal(to_events(given), EVENTS)


def test_no_events_are_events_too():
    assert len(to_events([])) == len(to_events({n: [] for n in "txyp"})) == 0


@pytest.mark.parametrize(
    "given",
    [np.zeros((4, 4)), [(1, 2, 3)], 5, None, "events", {"t": [1], "x": [1, 2]}, [5]],
    ids=str,
)
def test_what_holds_no_events_is_an_error_of_the_sdk(given):
    with pytest.raises(NotEvents):
        to_events(given)
    assert issubclass(NotEvents, SaccadeError)


@pytest.mark.parametrize("given", [{**COLUMNS, "t": [0.1, 0.2, 0.3]}, [(0.1, 1, 1, 1)]])
def test_seconds_are_told_how_to_become_microseconds(given):
    with pytest.raises(NotEvents, match=r"\(t \* 1e6\)\.astype"):
        to_events(given)


def test_blanks_around_a_key_do_not_count():
    assert authorization(" k1\n") == {"Authorization": "Bearer k1"}
    assert authorization("") == {}


@pytest.mark.parametrize("key", ["secret key", "secret\nkey", "sécret"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_quoted(key):
    with pytest.raises(InvalidChoice) as refused:
        authorization(key)
    assert "cret" not in str(refused.value)
