"""The benchmark of REST compares one request of all recordings with one for each."""

from __future__ import annotations

import json

import pytest

from benchmarks import rest
from saccade.model.events.recordings import open_recording


def test_recordings_of_noise_are_written_as_the_dataset_s_files(tmp_path):
    recordings = rest.noise(3)
    for number, recording in enumerate(recordings):
        (tmp_path / f"{number}.bin").write_bytes(rest.nmnist_bytes(recording))
    assert open_recording(tmp_path / "0.bin").sensor.width == rest.SIDE
    read = rest.read_folder(tmp_path, 2)
    assert [each.tolist() for each in read] == [r.tolist() for r in recordings[:2]]


@pytest.mark.slow
def test_both_ways_have_equal_answers_in_every_form(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rest, "SLICE_S", 0.01)
    path = tmp_path / "rows.json"
    arguments = ["--recordings", "5", "--rounds", "1", "--json", str(path)]
    assert rest.main(arguments) == 0
    written = json.loads(path.read_text())
    assert {row["form"] for row in written["rows"]} == {*rest.FORMS, rest.SDK}
    assert all(row["ratio"] > 0 for row in written["rows"])
    assert written["device_s"] > 0
    assert "the engine alone" in capsys.readouterr().out
