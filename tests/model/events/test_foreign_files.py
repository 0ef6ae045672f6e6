"""Scenes in every format that somebody else's library writes are read as they were."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.model.events.recordings import open_recording
from saccade.model.events.simulator.camera import simulate
from tests.model.events.foreign_files import FORMATS, SENSOR, write


@pytest.fixture(scope="module")
def scene():
    events = simulate("clockwise", seed=1, duration_us=100_000, sensor=SENSOR)
    events["t"] -= events["t"][0]
    return events


@pytest.mark.parametrize("name", FORMATS)
def test_a_foreign_file_has_the_events_of_its_scene(tmp_path, scene, name):
    recording = open_recording(write(tmp_path, name, scene))
    events = np.concatenate(list(recording.events))
    if recording.origin == "header":
        assert recording.sensor == SENSOR
    assert np.array_equal(events, scene)
