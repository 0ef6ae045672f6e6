"""Which of a server's models a command asks for a recording."""

from __future__ import annotations

import pytest

from saccade.clients.commands import classify
from saccade.clients.commands.opening import Models, open_files
from saccade.clients.errors import RequestRefused, UnplayableSource
from saccade.clients.http import ModelCard
from saccade.clients.sources import open_source
from saccade.model.events.errors import MalformedRecording
from saccade.model.events.reading import ReadOptions
from saccade.model.events.sensor import Sensor
from tests.model.events.test_recordings import csv_bytes

CARDS = [
    ModelCard(name, Sensor(*size), ["a", "b"])
    for name, size in (("wide", (640, 480)), ("digits", (34, 34)), ("mid", (128, 128)))
]


def choices(named: str | None = None) -> tuple[Models, list[str]]:
    lines: list[str] = []
    return Models(lambda: CARDS, named, lines.append), lines


@pytest.mark.parametrize(
    ("size", "origin", "name"),
    [
        ((34, 34), "header", "digits"),
        ((33, 30), "header", "wide"),
        ((33, 30), "guess", "digits"),
        ((100, 20), "guess", "mid"),
        ((900, 20), "guess", "wide"),
    ],
)
def test_the_model_suits_the_sensor(size, origin, name):
    models, lines = choices()
    assert models.choose(Sensor(*size), origin).name == name
    assert models.choose(Sensor(*size), origin).name == name
    assert lines == [f"asking {name}; --model chooses of wide, digits, mid"]


def test_a_named_model_is_asked_even_where_it_is_not_listed():
    models, lines = choices("other")
    assert models.choose(Sensor(34, 34), "header") == "other"
    assert not lines


def test_a_file_without_a_geometry_has_the_models(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(csv_bytes([(0, 30, 5, 1)]))
    recording, model = open_files([path], ReadOptions(), None, choices()[0])
    assert (recording.sensor, recording.origin) == (Sensor(34, 34), "model")
    assert model == "digits"
    recording, model = open_files([path], ReadOptions(), None, choices("mid")[0])
    assert (recording.sensor, model) == (Sensor(128, 128), "mid")
    given = ReadOptions(sensor=Sensor(99, 98))
    assert open_files([path], given, None, choices()[0])[0].origin == "given"


def test_a_missing_file_is_named_before_a_server_is_asked(tmp_path):
    def unreachable():
        raise AssertionError

    with pytest.raises(MalformedRecording, match="there is no such file"):
        open_files(
            [tmp_path / "a.csv"],
            ReadOptions(),
            None,
            Models(unreachable, None, lambda text: None),
        )


def test_a_recording_too_long_for_a_request_is_named_while_it_is_read(monkeypatch):
    monkeypatch.setattr(classify, "MOST_EVENTS", 4_000)
    source = open_source("sim:motions?seconds=60")
    with pytest.raises(UnplayableSource, match="more than 4,000 events, too many"):
        classify.load("a", source)


def test_a_server_without_models_is_said_to_have_none():
    with pytest.raises(RequestRefused, match="serves no model"):
        Models(list, None, lambda text: None).choose(Sensor(34, 34), "header")
