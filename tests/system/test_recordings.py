"""Real cameras' files, streamed whole into a released model."""

from __future__ import annotations

import json

import pytest

from tests.system.command import saccade

EVENTS = {
    "dvs_320x240.es": 473_225,
    "dvxplorer_320x240.aedat4": 111_954,
    "evt2_640x480.raw": 521_252,
    "evt2_sample.raw": 539_481,
    "evt3_1280x720_trigger": 82_469,
    "evt3_640x480.bag": 343_474,
    "evt3_640x480.raw": 343_474,
    "libcaer_rollover": 334_331,
    "ncars_sample_td.dat": 2_009,
    "nmnist_sample.bin": 4_325,
}
"""How many events the folder's README says that each file holds."""


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_a_recording_is_sent_and_scored_or_pending(server, shared, name):
    path = shared / "recordings" / name
    target = ("--url", server.url, "--model", "nmnist", "--fit", "scale")
    ended = saccade("stream", str(path), *target, "--speed", "max", "--json")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["events_sent"] == EVENTS[name]
    assert summary["events_scored"] + summary["events_pending"] == EVENTS[name]
    assert summary["events_refused"] == 0
    assert summary["label"] in "0123456789"
    assert not summary["interrupted"]


def test_a_file_of_no_known_format_is_refused_in_one_line(server, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    ended = saccade("stream", str(path), "--url", server.url, "--model", "nmnist")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert str(path) in line
    assert "no reader for" in line


def test_every_file_of_the_folder_is_tested(shared):
    found = {path.name for path in (shared / "recordings").iterdir()} - {"README.md"}
    assert found == {*EVENTS}
