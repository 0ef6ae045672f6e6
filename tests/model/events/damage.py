"""Read damaged copies of one recording in a process of its own.

    python -m tests.model.events.damage FILE COUNT FIRST_SEED

The last line on the standard output counts what became of the copies. A copy that
hangs ends the process by SIGALRM, one that crashes by its own signal; either way the
seed stands in the last line of the standard error. Memory is limited.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import faery  # noqa: F401 (so that its memory is counted before the limit)
import h5py  # noqa: F401
import hdf5plugin  # noqa: F401
import rosbags.rosbag1
import rosbags.rosbag2  # noqa: F401

from saccade.model.events.errors import EventsError
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor

MOST_BYTES = 1 << 31
"""How much memory the reading of a file may take on top of the libraries'."""
MOST_SECONDS = 20
MOST_GROWTH = 10_000_000
"""More events than any damaged copy can hold."""


def damaged(data: bytes, seed: int) -> bytes:
    """Cut a file, or flip some of its bits, or both; seldom in its first bytes only."""
    rng = random.Random(seed)
    copy = bytearray(data)
    if rng.random() < 0.4:
        del copy[rng.randrange(len(copy)) :]
    if copy and rng.random() < 0.8:
        reach = len(copy) if rng.random() < 0.6 else min(len(copy), 512)
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            copy[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(copy)


def outcome(path: Path, seed: int) -> str:
    """Read one file, and say what became of it."""
    truncated = "read" if seed % 2 else "refuse"
    sensor = Sensor(128, 128) if seed % 3 else None
    options = ReadOptions(sensor=sensor, truncated=truncated)
    seen = 0
    try:
        recording = open_recording(path, options=options)
        for events in recording.events:
            seen += events.size
            if seen > MOST_GROWTH:
                return "too many events"
    except EventsError as error:
        return "an error" if str(error).startswith(str(path)) else "an unnamed error"
    return "warned" if recording.findings.warnings else "read"


def most_bytes() -> int:
    """Return the most memory that this process had; ru_maxrss counts its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def main(name: str, count: int, first_seed: int) -> None:
    used = most_bytes()
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) << 12
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MOST_BYTES,) * 2)
    original, outcomes = Path(name), Counter[str]()
    data = original.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / original.name
        for seed in range(first_seed, first_seed + count):
            sys.stderr.write(f"{name}: seed {seed}\n")
            sys.stderr.flush()
            path.write_bytes(damaged(data, seed))
            signal.alarm(MOST_SECONDS)
            outcomes[outcome(path, seed)] += 1
            signal.alarm(0)
        shutil.rmtree(folder, ignore_errors=True)
    grown = most_bytes() - used
    sys.stdout.write(json.dumps({**outcomes, "grown_bytes": grown}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
