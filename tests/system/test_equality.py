"""However a recording reaches a released model, the final scores are the same."""

from __future__ import annotations

import asyncio
import itertools
import time

import numpy as np
import pytest

from saccade.clients import http
from saccade.clients.connection import connect
from saccade.clients.pacing import AS_FAST_AS_POSSIBLE, by_events, play
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.server.protocol.messages import Closed, Report
from tests.system.crowd import crowd
from tests.system.offline import (
    RELEASED,
    TOLERANCE,
    deviation,
    filmed,
    released,
    scanned,
)
from tests.wire import client_of

FEW_EVENTS = 3_000
DIGIT = "nmnist-small/Test/3/00019.bin"


@pytest.fixture(params=["simulated", "digit"])
def recording(request: pytest.FixtureRequest) -> Events:
    """Return a simulated scene as 34×34 pixels, and a real digit if it is here."""
    if request.param == "simulated":
        return filmed("nmnist")
    recording = open_recording(request.getfixturevalue("shared") / DIGIT)
    return np.concatenate([*recording.events])


async def stream(url: str, events: Events, frame: int, speed: float) -> Closed:
    async with connect(url, model="nmnist") as socket:
        async for part in play(by_events([events], frame), speed):
            await socket.send(part)
        return await socket.close()


@pytest.mark.parametrize("frame", [1, 100, 10_000])
@pytest.mark.parametrize(
    "speed", [1.0, AS_FAST_AS_POSSIBLE], ids=["as recorded", "full speed"]
)
async def test_a_stream_among_others_ends_as_rest_and_the_offline_scan_do(
    server, recording, frame, speed
):
    events = recording[:FEW_EVENTS] if frame == 1 else recording
    async with crowd(server.url):
        started_s = time.monotonic()
        closed = await stream(server.url, events, frame, speed)
        took_us = 1e6 * (time.monotonic() - started_s)
    (rest,) = http.classify(server.url, "nmnist", [events], sensor=Sensor(34, 34))
    offline = scanned("nmnist", events)
    assert closed.events + closed.pending == len(events)
    assert deviation(closed.logits, offline) <= TOLERANCE
    assert deviation(rest.logits, offline) <= TOLERANCE
    assert deviation(closed.logits, rest.logits) <= TOLERANCE
    assert closed.label == rest.label
    if speed == 1:
        assert took_us >= events["t"][-1] - events["t"][0]


@pytest.mark.parametrize("name", RELEASED)
async def test_every_released_model_is_served_as_the_offline_scan_scores_it(
    server, name
):
    manifest = released(name).manifest
    events = filmed(name)
    async with connect(server.url, model=name) as socket:
        await socket.send(events)
        closed = await socket.close()
        assert socket.opened.model_hash == manifest.content_hash
        assert socket.opened.labels == list(manifest.labels)
    sensor = manifest.tokenization.sensor
    (rest,) = http.classify(server.url, name, [events], sensor=sensor)
    offline = scanned(name, events)
    assert deviation(closed.logits, offline) <= TOLERANCE
    assert deviation(rest.logits, offline) <= TOLERANCE
    assert closed.label == manifest.labels[offline.argmax()]


@pytest.mark.parametrize("bits", [24, 31, 34])
@pytest.mark.parametrize("wire", ["sdk", "socket"])
async def test_a_clock_that_wraps_scores_as_one_that_does_not(server, wire, bits):
    events = filmed("nmnist")[:20_000]
    wrapped = events.copy()
    middle_us = int(events["t"][len(events) // 2])
    wrapped["t"] = (events["t"] - middle_us) % (1 << bits)
    offline = scanned("nmnist", events)
    if wire == "sdk":
        async with connect(server.url, model="nmnist", clock_bits=bits) as stream:
            await stream.send(wrapped)
            closed = await stream.close()
    else:
        closed = await asyncio.to_thread(send_as_counted, server.url, wrapped, bits)
    assert closed.events + closed.pending == len(events)
    assert deviation(closed.logits, offline) <= TOLERANCE


def send_as_counted(url: str, events: Events, bits: int) -> Closed:
    """Send the register's values as they are: no frame knows of the wrap."""
    with client_of(url) as client:
        client.open("nmnist", report=Report("flush"), clock_bits=bits)
        cuts = [0, *np.flatnonzero(np.diff(events["t"]) < 0) + 1, len(events)]
        for start, end in itertools.pairwise(cuts):
            client.send(events[start:end])
        return client.finish()
