"""AEDAT 2 of every layout that jAER and v2e write: events are where jAER shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.events.errors import UnsupportedRecording
from saccade.model.events.formats.jaer_chips import CHIPS, Chip, find_chip
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import Recording, open_recording
from saccade.model.events.sensor import Sensor
from tests.model.events.aedat_files import (
    Row,
    davis240_2,
    davis_address,
    dvs128_2,
    header_2,
    records_2,
)

ROWS = [(1_000, 5, 7, 1), (1_010, 90, 100, 0), (1_020, 0, 0, 1)]
REBASED = [(0, 5, 7, 1), (10, 90, 100, 0), (20, 0, 0, 1)]


def opened(path: Path, data: bytes, **options: object) -> Recording:
    path.write_bytes(data)
    return open_recording(path, options=ReadOptions(**options))  # type: ignore[arg-type]


def rows(recording: Recording) -> list[tuple[int, ...]]:
    return np.concatenate([*recording.events]).tolist()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.aedat"


def scattered(sensor: Sensor, number: int = 400) -> list[Row]:
    """Return events all over a sensor, its corners among them."""
    rng = np.random.default_rng(3)
    columns = [
        rng.integers(0, limit, number) for limit in (sensor.width, sensor.height, 2)
    ]
    corners = [(0, 0, 1), (sensor.width - 1, sensor.height - 1, 0)]
    places = [*zip(*(column.tolist() for column in columns), strict=True), *corners]
    return [(t, *place) for t, place in enumerate(places)]


def address(chip: Chip, row: Row) -> int:
    """Return an event's address, by the formats' definitions and not by the reader."""
    _, x, y, p = row
    width, height = chip.sensor.width, chip.sensor.height
    match chip.name:
        case "DVS128":
            return (127 - y) << 8 | (127 - x) << 1 | (1 - p)
        case "DVS640":
            return (height - 1 - y) << 11 | (width - 1 - x) << 1 | p
        case "DVS1280x720":
            return (height - 1 - y) << 12 | (width - 1 - x) << 1 | p
        case "DVXplorer":
            return y << 22 | x << 12 | p << 11
        case _:
            return davis_address((width, height), x, y, p)


def written(chip: Chip, events: Sequence[Row], name: str | None) -> bytes:
    return header_2(name) + records_2((address(chip, row), row[0]) for row in events)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_every_chip_that_the_header_names_is_read_as_jaer_shows_it(path, chip):
    events = scattered(chip.sensor)
    recording = opened(path, written(chip, events, f"a.b.{chip.name}"))
    assert (recording.sensor, recording.origin) == (chip.sensor, "camera")
    assert rows(recording) == events


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("Tmpdiff128", "DVS128"),
        ("DAVIS240C", "DAVIS240"),
        ("SBret10", "DAVIS240"),
        ("Davis346blue", "DAVIS346"),
        ("DVS1280x720SD", "DVS1280x720"),
        ("Davis208PixelParade", "DAVIS208"),
    ],
)
def test_names_of_the_same_chip(name, same):
    chip = find_chip(name)
    assert chip is not None
    assert chip.name == same


@pytest.mark.parametrize("name", ["DVS128", "DAVIS240", "DAVIS346", "DVS640"])
class TestWithoutAChipsName:
    def test_the_addresses_show_the_chip_which_is_a_guess(self, path, name):
        chip = find_chip(name)
        events = scattered(chip.sensor)
        recording = opened(path, written(chip, events, None))
        assert (recording.sensor, recording.origin) == (chip.sensor, "guess")
        assert "names no chip" in recording.findings.warnings[0]
        assert rows(recording) == events

    def test_a_geometry_chooses_it(self, path, name):
        chip = find_chip(name)
        few = [(0, chip.sensor.width - 3, chip.sensor.height - 5, 1)]
        recording = opened(path, written(chip, few, None), sensor=chip.sensor)
        assert (recording.sensor, recording.origin) == (chip.sensor, "given")
        assert rows(recording) == few

    def test_a_chips_name_chooses_it(self, path, name):
        chip = find_chip(name)
        few = [(0, chip.sensor.width - 3, chip.sensor.height - 5, 1)]
        recording = opened(path, written(chip, few, None), chip=name)
        assert (recording.sensor, recording.origin) == (chip.sensor, "given")
        assert rows(recording) == few

    def test_the_models_geometry_is_taken_before_a_guess(self, path, name):
        chip = find_chip(name)
        data = written(chip, scattered(chip.sensor), None)
        recording = opened(path, data, model_sensor=chip.sensor)
        assert (recording.sensor, recording.origin) == (chip.sensor, "model")

    def test_another_chip_or_geometry_is_refused(self, path, name):
        chip = find_chip(name)
        data = written(chip, scattered(chip.sensor), None)
        for options in ({"chip": "DVXplorer"}, {"sensor": Sensor(34, 34)}):
            if name.startswith("DAVIS") and "chip" in options:
                continue  # the same layout
            with pytest.raises(UnsupportedRecording, match="address"):
                opened(path, data, **options)


def test_addresses_of_no_chip_are_refused(path):
    noise = np.random.default_rng(0).bytes(8_000)
    with pytest.raises(UnsupportedRecording, match="like no chip's; name it: DVS128"):
        opened(path, header_2() + noise)


def test_frames_samples_and_triggers_are_skipped_and_counted(path):
    others = [1 << 31 | 7, 1 << 31 | 3 << 10, 1 << 31 | 3 << 10 | 1 << 28, 1 << 10]
    recording = opened(path, davis240_2(ROWS, others))
    assert rows(recording) == REBASED
    assert recording.findings.skipped == {
        "frame samples": 1,
        "inertial samples": 2,
        "external events": 1,
    }


def test_external_events_of_a_dvs128_are_no_changes(path):
    data = dvs128_2(ROWS, "DVS128") + records_2([(1 << 15, 9), (1 << 20, 9)])
    recording = opened(path, data)
    assert rows(recording) == REBASED
    kinds = {"external events": 1, "unknown addresses": 1}
    assert recording.findings.skipped == kinds


@pytest.mark.parametrize("marker", [True, False])
def test_an_event_whose_first_byte_is_a_hash_is_no_header(path, marker):
    events = [(10 * t, t, 39, 1) for t in range(40)]  # rows 140 to 143 begin with 0x23
    words = [(davis_address((240, 180), x, y, p), t) for t, x, y, p in events]
    data = records_2(words)
    assert data.startswith(b"#")
    recording = opened(path, header_2("DAVIS240C", marker=marker) + data)
    assert rows(recording) == events


@given(cut=st.integers(1, 7), times=st.lists(st.integers(0, 1 << 20), min_size=2))
def test_a_cut_file_is_read_up_to_its_last_whole_event(tmp_path_factory, cut, times):
    path = tmp_path_factory.mktemp("cut") / "a.aedat"
    data = dvs128_2([(t, 1, 2, 1) for t in sorted(times)], "DVS128")
    recording = opened(path, data[:-cut], truncated="read")
    assert len(rows(recording)) == len(times) - 1
    assert recording.findings.warnings == [
        "truncated: it ends inside an event; read up to there"
    ]


def test_an_address_outside_the_chip_is_kept_for_the_check(path):
    recording = opened(path, davis240_2([*ROWS, (1_030, 3, -20, 1)]))
    assert rows(recording)[-1][2] > 180


def test_a_pair_of_cameras_in_one_file_is_no_chip(path):
    with pytest.raises(UnsupportedRecording, match="chip Tmpdiff128StereoPair"):
        opened(path, dvs128_2(ROWS, "a.b.Tmpdiff128StereoPair"))
