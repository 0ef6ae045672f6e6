from __future__ import annotations

import asyncio
import io
import json

import pytest

from saccade.clients.commands.playback import Playback, run
from saccade.clients.display.plain import JsonView
from saccade.clients.errors import ConnectionLost
from saccade.clients.pacing import play
from saccade.clients.sources import Source
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.messages import (
    Ack,
    ErrorMessage,
    EventsFrame,
)
from tests.clients.scripted import moving, result, scripted

NEVER_DUE_US = 10**12
"""A test that waited for an event at this time would not end."""


def playback(url, frames, speed=1.0):
    source = Source("toy.bin", Sensor(128, 128), iter(frames))
    return Playback(url, "toy", source, play(source.chunks, speed))


async def played(url, frames, notify=lambda text: None, **options):
    out = io.StringIO()
    view = JsonView(out)
    summary = await run(playback(url, frames, **options), view, {}, notify)
    return summary, [json.loads(line) for line in out.getvalue().splitlines()]


async def test_a_source_plays_to_its_end_and_is_summed_up():
    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        await peer.send(result(4))
        await peer.send(Ack(1, 4, 32))
        await peer.finish()

    async with scripted(script) as url:
        summary, lines = await played(url, [moving(4)])
    assert [line["label"] for line in lines] == ["left"]
    assert (summary.events_sent, summary.results, summary.label) == (4, 1, "left")
    assert not summary.interrupted


async def test_an_interrupt_ends_the_play_but_still_brings_the_scores():
    sent = asyncio.Event()

    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        sent.set()
        await peer.finish()

    async with scripted(script) as url:
        frames = [moving(4), moving(4, start_us=NEVER_DUE_US)]
        playing = asyncio.create_task(played(url, frames))
        await sent.wait()
        playing.cancel()
        summary, _ = await playing
    assert summary.interrupted
    assert (summary.events_sent, summary.label) == (4, "left")


async def test_a_connection_that_drops_ends_the_play_at_once():
    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        await peer.socket.close(1012)

    async with scripted(script) as url:
        with pytest.raises(ConnectionLost):
            await played(url, [moving(4), moving(4, start_us=NEVER_DUE_US)])


async def test_a_refused_frame_does_not_stop_the_play():
    async def script(peer):
        await peer.open()
        await peer.expect(EventsFrame)
        await peer.send(ErrorMessage("unsorted_events", "no", False, seq=1))
        await peer.send(Ack(1, 4, 32))
        assert (await peer.expect(EventsFrame)).seq == 2
        await peer.send(ErrorMessage("unsorted_events", "no", False, seq=2))
        await peer.finish()

    async with scripted(script) as url:
        summary, _ = await played(url, [moving(4), moving(4, start_us=50_000)])
    assert (summary.frames_refused, summary.events_refused) == (2, 8)
    assert summary.label == "left"


async def test_a_source_that_breaks_says_so():
    def broken():
        yield moving(4)
        raise ValueError("the file is truncated")

    async def script(peer):
        await peer.open()
        await peer.socket.wait_closed()

    async with scripted(script) as url:
        with pytest.raises(ValueError, match="truncated"):
            await played(url, broken())


async def test_another_sensors_events_are_reported_as_scaled():
    async def script(peer):
        await peer.open()
        await peer.finish()

    notices = []
    source = Source("big.raw", Sensor(640, 480), iter([]))
    async with scripted(script) as url:
        view = JsonView(io.StringIO())
        playback = Playback(url, "toy", source, play(source.chunks, 1.0))
        await run(playback, view, {"fit": "scale"}, notices.append)
    assert notices == [
        "the events of a 640x480 sensor are scaled to the model's 128x128"
    ]
