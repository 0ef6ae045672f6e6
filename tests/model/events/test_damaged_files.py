"""A damaged recording is an error in words or fewer events, whatever its format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from saccade.model.events.recordings import OPENERS
from saccade.model.events.simulator.camera import simulate
from tests.model.events.aedat_files import aedat_31, davis240_2, packet_31
from tests.model.events.foreign_files import FORMATS, SENSOR, write
from tests.model.events.hdf5_files import write_metavision
from tests.model.events.test_recordings import nmnist_bytes
from tests.model.events.test_ros import evt21

ROOT = Path(__file__).parents[3]
KINDS = {"read", "warned", "an error"}
MOST_GROWTH = 512 << 20
OURS = {
    "AEDAT 2": ".aedat",
    "AEDAT 3.1": ".aedat",
    "ECF": ".hdf5",
    "EVT2.1": ".raw",
    "N-MNIST": ".bin",
}
"""The formats that no other library writes, or none that installs."""


def ours(path, name, events):
    rows = events.tolist()
    match name:
        case "AEDAT 2":
            path.write_bytes(davis240_2(rows))
        case "AEDAT 3.1":
            parts = [rows[at : at + 100] for at in range(0, len(rows), 100)]
            path.write_bytes(aedat_31([packet_31(part) for part in parts]))
        case "ECF":
            write_metavision(path, events)
        case "EVT2.1":
            path.write_bytes(b"% evt 2.1\n% geometry 320x320\n% end\n" + evt21(events))
        case "N-MNIST":
            path.write_bytes(nmnist_bytes(rows))
    return path


@pytest.fixture(scope="module")
def scene():
    events = simulate("clockwise", seed=1, duration_us=20_000, sensor=SENSOR)
    events["t"] -= events["t"][0]
    return events


def damage(folder, name, events, count, first_seed=0):
    """Read damaged copies in a process of their own, and return what became of them."""
    path = (
        ours(folder / f"a{OURS[name]}", name, events)
        if name in OURS
        else write(folder, name, events)
    )
    words = [sys.executable, "-m", "tests.model.events.damage", str(path), str(count)]
    ended = subprocess.run(
        [*words, str(first_seed)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_suffix_has_a_format_to_damage():
    suffixes = {form.suffix or f".{form.member.rpartition('.')[2]}"
                for form in FORMATS.values()}  # fmt: skip
    same = {".aedat2": ".aedat", ".tsv": ".txt"}
    assert {same.get(s, s) for s in OPENERS} == suffixes | set(OURS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FORMATS, *OURS])
def test_a_thousand_damaged_files_are_read_or_refused_in_words(tmp_path, scene, name):
    found = damage(tmp_path, name, scene, 1_000)
    assert found.pop("grown_bytes") < MOST_GROWTH
    assert set(found) <= KINDS
    assert sum(found.values()) == 1_000


@pytest.mark.parametrize("name", ["numpy's columns", "mcap's mcap", "EVT2.1"])
def test_a_few_damaged_files_are_read_or_refused_in_words(tmp_path, scene, name):
    found = damage(tmp_path, name, scene[:500], 30, first_seed=1_000_000)
    assert found.pop("grown_bytes") < MOST_GROWTH
    assert set(found) <= KINDS
    assert np.sum([*found.values()]) == 30
