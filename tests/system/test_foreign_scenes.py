"""Scenes in every format that another library writes are classified as their arrays."""

from __future__ import annotations

import numpy as np
import pytest

from saccade.model.events.recordings import open_recording
from saccade.model.events.simulator.camera import MOTIONS, simulate
from tests.model.events.foreign_files import FORMATS, SENSOR, write
from tests.system.offline import released, scanned

pytestmark = pytest.mark.slow
LENGTH = 5_000  # events, so that the scan compiles once


@pytest.fixture(scope="module")
def scenes():
    """Return a scene of each motion, and the scores of its array."""
    found = {}
    for seed, motion in enumerate(MOTIONS):
        events = simulate(motion, seed=seed, duration_us=300_000, sensor=SENSOR)
        events = events[:LENGTH].copy()
        events["t"] -= events["t"][0]
        found[motion] = events, scanned("motions", events)
    return found


def test_the_arrays_have_their_own_labels(scenes):
    assert released("motions").manifest.tokenization.sensor == SENSOR
    labels = released("motions").manifest.labels
    assert [labels[scores.argmax()] for _, scores in scenes.values()] == list(scenes)


@pytest.mark.parametrize("name", FORMATS)
def test_the_files_have_the_scores_of_their_arrays(tmp_path, scenes, name):
    for motion, (events, scores) in scenes.items():
        folder = tmp_path / motion
        folder.mkdir()
        recording = open_recording(write(folder, name, events), SENSOR)
        read = np.concatenate(list(recording.events))
        assert np.array_equal(scanned("motions", read), scores)
