"""AEDAT4 of several cameras, written by faery's own encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import faery
import numpy as np
import pytest
from faery import aedat

from saccade.model.events.errors import MalformedRecording
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import Recording, open_recording
from saccade.model.events.sensor import Sensor

T0 = 1_600_000_000_000_000
LEFT = [(T0 + 10 * t, t % 30, t % 20, t % 2) for t in range(100)]
RIGHT = [(T0 + 7 + 10 * t, t % 60, t % 50, 1) for t in range(40)]


def text(value: str) -> aedat.DescriptionAttribute:
    return aedat.DescriptionAttribute("string", value)


def described(number: int, kind: str, source: str, size: tuple[int, int] | None):
    path = f"/mainloop/Recorder/outInfo/{number}/"
    attributes = {"source": text(source)}
    for name, side in zip(("sizeX", "sizeY"), size or (), strict=False):
        attributes[name] = aedat.DescriptionAttribute("int", side)
    info = aedat.DescriptionNode("info", f"{path}info/", attributes, [])
    named = {"compression": text("LZ4"), "typeIdentifier": text(kind)}
    return aedat.DescriptionNode(str(number), path, named, [info])


def write(path: Path, *tracks: Sequence[tuple[int, int, int, int]]) -> Path:
    names, sizes = ("DAVIS346_1", "DVXplorer_2"), ((30, 20), (60, 50))
    nodes = [described(n, "EVTS", names[n], sizes[n]) for n, _ in enumerate(tracks)] + [
        described(7, "TRIG", names[0], None)
    ]
    root = aedat.DescriptionNode("outInfo", "/mainloop/Recorder/outInfo/", {}, nodes)
    with aedat.Encoder(path, [root], aedat.LZ4_DEFAULT) as encoder:
        for begin in range(0, 100, 10):
            for number, rows in enumerate(tracks):
                part = np.array(rows[begin : begin + 10], faery.EVENTS_DTYPE)
                if part.size:
                    encoder.write(number, part)
    return path


def opened(path: Path, **options: object) -> Recording:
    return open_recording(path, options=ReadOptions(**options))  # type: ignore[arg-type]


def rows(recording: Recording) -> list[tuple[int, ...]]:
    return np.concatenate([*recording.events]).tolist()


def test_the_first_camera_is_read_and_the_other_named(tmp_path):
    recording = opened(write(tmp_path / "a.aedat4", LEFT, RIGHT))
    assert (recording.sensor, recording.origin) == (Sensor(30, 20), "header")
    assert recording.cameras == ("0 DAVIS346_1", "1 DVXplorer_2")
    assert recording.findings.warnings == [
        "camera 0 DAVIS346_1 is read; the file also holds 1 DVXplorer_2"
    ]
    assert rows(recording) == [(t - T0, x, y, p) for t, x, y, p in LEFT]


def test_another_camera_is_read_where_it_is_named(tmp_path):
    recording = opened(write(tmp_path / "a.aedat4", LEFT, RIGHT), camera="dvx")
    assert recording.sensor == Sensor(60, 50)
    assert rows(recording) == [(t - T0 - 7, x, y, p) for t, x, y, p in RIGHT]


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_cut_file_is_refused_or_read_up_to_the_cut(tmp_path, share):
    path = write(tmp_path / "a.aedat4", LEFT)
    whole = path.read_bytes()
    end = int(len(whole) * share)
    path.write_bytes(whole[:end])
    with pytest.raises(MalformedRecording):
        rows(opened(path))
    recording = opened(path, truncated="read")
    found = rows(recording)
    assert 0 < len(found) < len(LEFT)
    assert found == [(t - T0, x, y, p) for t, x, y, p in LEFT][: len(found)]
    assert "read up to there" in recording.findings.warnings[0]


def test_a_real_recording_counts_its_inertial_samples(recordings):
    recording = opened(recordings / "dvxplorer_320x240.aedat4")
    assert recording.cameras == ("0 DVXplorer_DXB00010",)
    assert len(rows(recording)) == 111_954
    assert recording.findings.skipped["inertial samples"] > 59
