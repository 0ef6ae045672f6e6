"""A real camera whose clock wraps inside the recording: libcaer's packets, 31 bits."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saccade.clients.connection import connect
from saccade.model.events.fit import fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.protocol.messages import Report
from tests.system.offline import TOLERANCE, deviation, released, scanned

CAMERA = Sensor(640, 480)


def payloads(path: Path) -> Iterator[bytes]:
    """Read each EventPacket's events out of a ROS bag: CDR, aligned to its fields."""
    bag = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for (message,) in bag.execute("select data from messages order by timestamp"):
            yield _events_of(message[4:])  # 4 bytes say how the rest is encoded
    finally:
        bag.close()


def _events_of(body: bytes) -> bytes:
    place = _past_string(body, 8)  # after the header's time
    place = _aligned(place, 4) + 8  # height and width
    place = _past_string(body, _aligned(place, 8) + 16)  # seq, time base; encoding
    place = _aligned(place + 1, 4)  # whether it is big-endian
    (size,) = struct.unpack_from("<I", body, place)
    return body[place + 4 : place + 4 + size]


def _aligned(place: int, to: int) -> int:
    return -(-place // to) * to


def _past_string(body: bytes, place: int) -> int:
    place = _aligned(place, 4)
    (size,) = struct.unpack_from("<I", body, place)
    return place + 4 + size


def rollover(folder: Path) -> Events:
    words = np.concatenate(
        [
            np.frombuffer(part, "<u4").reshape(-1, 2)
            for part in payloads(folder / "libcaer_rollover_0.db3")
        ]
    )
    events = np.empty(len(words), EVENT_DTYPE)
    events["t"] = words[:, 1]
    events["x"] = words[:, 0] >> 17
    events["y"] = words[:, 0] >> 2 & 0x7FFF
    events["p"] = words[:, 0] >> 1 & 1
    return events


@pytest.mark.slow
async def test_a_real_rollover_changes_no_score(server, shared):
    events = rollover(shared / "recordings" / "libcaer_rollover")
    sums = [int(events[name].sum(dtype=np.int64)) for name in "pxy"]
    assert sums == [181_908, 111_651_612, 82_801_007]
    steps = np.diff(events["t"])
    assert (steps < 0).sum() == 1
    async with connect(
        server.url,
        model="motions",
        sensor=CAMERA,
        fit="scale",
        report=Report("flush"),
        clock_bits=31,
    ) as stream:
        await stream.send(events)
        closed = await stream.close()
    steps[steps < 0] += 2**31
    events["t"] = np.cumsum([0, *steps])
    assert closed.events + closed.pending == len(events) == 334_331
    target = released("motions").manifest.tokenization.sensor
    truth = scanned("motions", fit(events, CAMERA, target, "scale"))
    assert deviation(closed.logits, truth) <= TOLERANCE
