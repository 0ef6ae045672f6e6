"""The reading of a long recording takes no more memory than that of a short one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from saccade.model.events.types import EVENT_DTYPE
from tests.model.events import ros_files as ros
from tests.model.events.hdf5_files import write_metavision
from tests.model.events.test_ros import libcaer_cmp

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
TIMES = 8
MOST_GROWTH = 6 << 20
"""Less than the events of any of the long recordings take."""
READ = """
import re, sys
from saccade.model.events.recordings import open_recording
count = sum(map(len, open_recording(sys.argv[1]).events))
most_kb = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]
print(count, int(most_kb) << 10)
"""


def like_a_davis346(count):
    rng = np.random.default_rng(5)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = np.arange(count) * 2
    events["x"], events["y"] = rng.integers(0, 346, count), rng.integers(0, 260, count)
    events["p"] = rng.integers(0, 2, count)
    return events


def write_mcap(path, events):
    store = ros.typestore(is_ros2=True)
    parts = np.array_split(events, len(events) // 1_000)
    bases_ns = [int(part["t"][0]) * 1000 for part in parts]
    for part in parts:
        part["t"] -= part["t"][0]
    payloads = [libcaer_cmp(part) for part in parts]
    messages = ros.packets(
        store, payloads, "libcaer_cmp", (346, 260), bases_ns, is_ros2=True
    )
    ros.write_mcap(path, "/event_camera/events", messages, store)


def write_text(path, events):
    table = np.stack([events[field] for field in "txyp"], axis=1)
    np.savetxt(path, table, "%d", delimiter=",")


def write_columns(path, events):
    np.savez_compressed(path, **{field: events[field] for field in "txyp"})


def write_records(path, events):
    write_metavision(path, events, "346x260", block=16_384, mode=None)


WRITERS = {
    "davis346.mcap": (write_mcap, 571_266),
    "a.csv": (write_text, 80_000),
    "a.npz": (write_columns, 150_000),
    "a.h5": (write_records, 571_266),
}
"""The writer of each file, and how many events the short one has."""


def read(path):
    """Read a file in a process of its own; return its events and most memory."""
    ended = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    return map(int, ended.stdout.split())


@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_grow_with_a_files_length(tmp_path, name):
    used, (write, short) = [], WRITERS[name]
    for count in (short, TIMES * short):
        path = tmp_path / f"{count}_{name}"
        write(path, like_a_davis346(count))
        found, most = read(path)
        assert found == count
        used.append(most)
    assert used[1] - used[0] < MOST_GROWTH
