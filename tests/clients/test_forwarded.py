"""A RAW file's bytes go to the server untouched, and mean the same there."""

from __future__ import annotations

import asyncio
import io
from argparse import Namespace

import numpy as np
import pytest

from saccade.clients.commands.framing import framed
from saccade.clients.commands.playback import Playback, run
from saccade.clients.commands.stream import choose, parser
from saccade.clients.display.plain import JsonView
from saccade.clients.errors import UnplayableSource
from saccade.clients.sources import Source, open_raw_words
from saccade.model.events.formats import raw
from saccade.model.events.recordings import open_recording
from saccade.server.protocol.messages import Ack, Close, EventsFrame
from tests.clients.scripted import FINAL, scripted

faery = pytest.importorskip("faery")


def write_raw(path, version, count=3_000, start_us=0):
    rng = np.random.default_rng(3)
    events = np.empty(count, faery.EVENTS_DTYPE)
    events["t"] = start_us + np.sort(rng.integers(0, 10**6, count))
    events["x"] = rng.integers(0, 128, count)
    events["y"] = rng.integers(0, 128, count)
    events["p"] = rng.integers(0, 2, count)
    faery.events_stream_from_array(events, (128, 128)).to_file(path, version=version)
    return path


def words_of(path):
    with path.open("rb") as file:
        raw.read_header(file)
        return file.read()


def given(*argv):
    return parser().parse_args([*argv, "--speed", "max"])


async def forwarded(paths, options: Namespace):
    """Stream by --raw to a scripted server; return its `open` and all the bytes."""
    received = bytearray()
    opening = []

    async def script(peer):
        opening.append(await peer.open())
        while not isinstance(message := await peer.expect(EventsFrame | Close), Close):
            received.extend(message.data)
            await peer.send(Ack(message.seq, 0, len(received)))
        await peer.send(FINAL)
        await peer.socket.close()

    recording = open_recording(paths[0])
    source = Source(
        "some.raw", recording.sensor, recording.events, raw=open_raw_words(paths)
    )
    async with scripted(script) as url:
        with framed(source, options) as frames:
            playback = Playback(url, "toy", source, frames, keeps_pace=False)
            choices = choose(source, options)
            view = JsonView(io.StringIO())
            await run(playback, view, choices, lambda text: None)
    return opening[0], bytes(received)


@pytest.mark.parametrize("version", ["evt2", "evt3"])
async def test_the_bytes_arrive_untouched(tmp_path, version):
    path = write_raw(tmp_path / "some.raw", version)
    opening, received = await forwarded([path], given("some.raw", "--raw"))
    assert opening.encoding == version
    assert received == words_of(path)


async def test_the_words_of_evt21_arrive_untouched(tmp_path):
    times = [0x8 << 60 | high << 32 for high in range(1, 50)]
    pixels = [1 << 60 | x << 43 | 0xF for x in range(0, 98, 2)]
    words = np.array([times, pixels], "<u8").T.tobytes()
    path = tmp_path / "some.raw"
    path.write_bytes(b"% evt 2.1\n% geometry 128x128\n% end\n" + words)
    opening, received = await forwarded([path], given("some.raw", "--raw"))
    assert (opening.encoding, received) == ("evt21", words)


async def test_several_files_are_forwarded_as_one(tmp_path):
    paths = [
        write_raw(tmp_path / name, "evt3", start_us=start_us)
        for name, start_us in (("1.raw", 0), ("2.raw", 2_000_000))
    ]
    _, received = await forwarded(paths, given("1.raw", "2.raw", "--raw"))
    assert received == words_of(paths[0]) + words_of(paths[1])


def test_only_raw_files_of_one_encoding_are_forwarded(tmp_path):
    paths = [
        write_raw(tmp_path / f"{version}.raw", version) for version in ("evt2", "evt3")
    ]
    with pytest.raises(UnplayableSource, match="evt2, evt3"):
        open_raw_words(paths)
    with pytest.raises(UnplayableSource, match="RAW files alone"):
        open_raw_words([tmp_path / "some.csv"])


@pytest.mark.parametrize(
    "argv", [["--filter", "noise"], ["--record", "kept.aedat4"], []]
)
def test_raw_goes_with_no_other_handling_and_no_other_source(tmp_path, argv):
    path = write_raw(tmp_path / "some.raw", "evt3")
    words = open_raw_words([path]) if argv else None
    source = Source("some.raw", None, iter([]), raw=words)
    with (
        pytest.raises(UnplayableSource, match="--raw"),
        framed(source, given("some.raw", "--raw", *argv)),
    ):
        pass


async def test_at_a_sensors_pace_the_words_wait_for_their_events(tmp_path):
    path = write_raw(tmp_path / "some.raw", "evt3")
    source = Source("some.raw", None, iter([]), raw=open_raw_words([path]))
    options = parser().parse_args(["some.raw", "--raw", "--speed", "0.001"])
    with framed(source, options) as frames:
        first = asyncio.create_task(anext(frames))
        done, _ = await asyncio.wait([first], timeout=0.2)
        assert not done
        first.cancel()
