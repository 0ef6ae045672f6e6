"""The client's commands and SDK against a real server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from saccade.clients import http
from saccade.clients.blocking import connect as connect_blocking
from saccade.clients.commands.cli import classify, stream
from saccade.clients.commands.server_process import ServerFailed, ServerProcess
from saccade.clients.connection import connect
from saccade.clients.errors import ServerUnreachable, StreamError
from saccade.clients.reconnecting import Reconnecting
from saccade.model.events.simulator.camera import DEFAULT_SENSOR, simulate
from saccade.model.events.simulator.scenes import MOTIONS
from saccade.model.events.types import Events
from tests.clients.untrained import TICK_EVENTS, save_untrained
from tests.model.events.aedat_files import HEADER_31, aedat_31, packet_31
from tests.model.events.test_recordings import csv_bytes

EPOCH_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Arguments of a server of one small model."""
    path = tmp_path_factory.mktemp("untrained") / "motions"
    save_untrained(path, "motions", MOTIONS, 128)
    return ["--buckets", "1x8", "--model", str(path)]


@pytest.fixture(scope="module")
def server(arguments):
    with ServerProcess(arguments) as process:
        process.wait_until_ready(lambda text: None)
        yield process


@pytest.fixture(scope="module")
def events() -> Events:
    return simulate("clockwise", seed=1, duration_us=20_000)


@pytest.fixture(scope="module")
def expected(server, events):
    """The logits of the events through REST."""
    (answer,) = http.classify(server.url, "motions", [events], sensor=DEFAULT_SENSOR)
    assert answer.events == events.size // TICK_EVENTS * TICK_EVENTS
    return answer.logits


@pytest.mark.parametrize("frame", [1, 100, 10_000])
async def test_a_stream_ends_with_the_scores_of_rest_however_it_is_cut(
    server, events, expected, frame
):
    start = events.copy()
    start["t"] += EPOCH_US
    async with connect(server.url, model="motions") as stream:
        for first in range(0, events.size, frame):
            await stream.send(start[first : first + frame])
        flushed = await stream.flush()
        closed = await stream.close()
    np.testing.assert_allclose(flushed.logits, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(closed.logits, expected, rtol=1e-4, atol=1e-6)
    assert closed.events + closed.pending == events.size
    assert stream.stats.latencies_ms


def test_the_blocking_sdk_ends_with_the_same_scores(server, events, expected):
    with connect_blocking(server.url, model="motions") as stream:
        stream.send(events)
        flushed = stream.flush()
    np.testing.assert_allclose(flushed.logits, expected, rtol=1e-4, atol=1e-6)


async def test_a_refused_frame_leaves_no_trace_in_the_scores(server, events, expected):
    bad = events[:5].copy()
    bad["x"][2] = 500
    half = events.size // 2
    async with connect(server.url, model="motions") as stream:
        await stream.send(events[:half])
        await stream.send(bad)
        with pytest.raises(StreamError) as refused:
            await stream.flush()
        await stream.send(events[half:])
        closed = await stream.close()
    assert (refused.value.code, refused.value.index) == ("event_outside_sensor", 2)
    assert (refused.value.field, refused.value.value) == ("x", 500)
    assert stream.stats.refused_events == 5
    np.testing.assert_allclose(closed.logits, expected, rtol=1e-4, atol=1e-6)


async def test_a_reset_forgets_what_came_before(server, events, expected):
    async with connect(server.url, model="motions") as stream:
        await stream.send(events[::-1][:0])
        await stream.send(events[100:900])
        await stream.reset()
        await stream.send(events)
        flushed = await stream.flush()
    np.testing.assert_allclose(flushed.logits, expected, rtol=1e-4, atol=1e-6)


async def test_an_unknown_model_names_those_that_are_served(server):
    with pytest.raises(StreamError, match="served here: motions"):
        async with connect(server.url, model="motoins"):
            pass


def test_saccade_stream_shows_lines_and_a_summary(server, capsys):
    source = "sim:motions?seconds=0.3&seed=3"
    assert stream([source, "--url", server.url, "--speed", "max"]) == 0
    summary = dict(
        line.split(maxsplit=1)
        for line in capsys.readouterr().out.splitlines()
        if not line.startswith(" ")
    )
    assert set(summary) >= {"label", "events", "rate", "latency", "agreement"}
    assert summary["label"].split()[0] in MOTIONS


def test_saccade_stream_writes_json_for_programs(server, capsys):
    arguments = ["--speed", "max", "--json", "--report", "events:1000"]
    assert stream(["sim:motions?seconds=0.3", "--url", server.url, *arguments]) == 0
    *results, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(results) == summary["results"]
    scored, pending = summary["events_scored"], summary["events_pending"]
    assert scored + pending == summary["events_sent"] > 1000
    assert not summary["interrupted"]


def write_recording(path, count):
    """Write an N-MNIST file of 34×34 pixels."""
    records = np.zeros((count, 5), np.uint8)
    records[:, 0] = np.arange(count) % 34
    records[:, 3] = np.arange(count) >> 8
    records[:, 4] = np.arange(count) & 255
    path.write_bytes(records.tobytes())
    return str(path)


def test_a_recording_of_another_sensor_is_scaled_and_that_is_reported(
    server, capsys, tmp_path
):
    path = write_recording(tmp_path / "digit.bin", 500)
    assert stream([path, "--url", server.url, "--model", "motions"]) == 0
    assert "a 34x34 sensor are scaled to the model's 128x128" in capsys.readouterr().err
    assert stream([path, "--url", server.url, "--fit", "reject"]) == 1
    assert "sensor_mismatch" in capsys.readouterr().err


def test_saccade_classify_lists_its_files(server, capsys, tmp_path):
    files = [write_recording(tmp_path / f"{n}.bin", 100 * n + 20) for n in (1, 2)]
    assert classify([*files, "--url", server.url]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "label", "confidence", "events"]
    assert (first.split()[0], first.split()[-1]) == (files[0], "112")
    assert second.split()[-1] == "208"
    assert classify([*files, "--url", server.url, "--json"]) == 0
    assert [row["pending"] for row in json.loads(capsys.readouterr().out)] == [8, 12]


def test_files_without_an_answer_are_named_and_the_others_answered(
    server, capsys, tmp_path
):
    good = [write_recording(tmp_path / f"{n}.bin", 100 * n + 20) for n in (1, 2)]
    cut = tmp_path / "cut.bin"
    cut.write_bytes(Path(good[0]).read_bytes()[:-2])
    backwards = tmp_path / "backwards.csv"
    backwards.write_text("t,x,y,p\n9,1,1,1\n3,1,1,1\n")
    files = [good[0], str(cut), str(backwards), "nowhere.bin", good[1]]
    assert classify([*files, "--url", server.url]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["file", *good]
    assert f"{cut}: truncated: it ends inside an event" in err
    assert f"{backwards}: " in err
    assert "nowhere.bin: there is no such file" in err
    wide = ["--truncated", "read", "--url", server.url, "--json"]
    assert classify([*files, *wide]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == files
    assert [row.get("events") for row in rows] == [112, 112, None, None, 208]
    assert [name for name in files if name == rows[2]["file"] and rows[2]["error"]]


def test_a_guessed_sensor_is_announced_and_every_camera_answered(
    server, capsys, tmp_path
):
    rows = [(t, t % 100, 150, t % 2) for t in range(40)]
    wide, two = tmp_path / "wide.csv", tmp_path / "two.aedat"
    wide.write_bytes(csv_bytes(rows))
    small = [(t, x, y % 100, p) for t, x, y, p in rows]
    both = [packet_31(rows), packet_31(small[:24], source=2)]
    header = HEADER_31.replace(b"DVS128", b"DAVIS240C\r\n#Source 2: DVS128")
    two.write_bytes(aedat_31(both, header))
    options = ["--url", server.url, "--camera", "all", "--json"]
    assert classify([str(wide), str(two), *options]) == 0
    out, err = capsys.readouterr()
    assert f"{wide}: its sensor is guessed to be 40x151; --sensor WxH says it" in err
    answers = {row["file"]: row["events"] + row["pending"] for row in json.loads(out)}
    assert answers == {
        str(wide): 40,
        f"{two} [1 DAVIS240C]": 40,
        f"{two} [2 DVS128]": 24,
    }


def test_several_files_continue_one_stream(server, capsys, tmp_path):
    parts = [tmp_path / f"{n}.csv" for n in range(3)]
    for n, part in enumerate(parts):
        rows = [(40 * n + t, t, n, 1) for t in range(40)]
        part.write_bytes(csv_bytes(rows))
    files = [str(part) for part in parts]
    options = ["--url", server.url, "--speed", "max", "--json"]
    assert stream([*files, *options]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["events_scored"], summary["events_pending"]) == (112, 8)
    assert summary["stream_s"] == pytest.approx(111e-6)
    assert stream([files[0], "sim:motions", *options]) == 1
    assert "only files continue one stream" in capsys.readouterr().err


def test_all_cameras_of_a_file_are_streamed_at_once(server, capsys, tmp_path):
    rows = [(t, t % 100, t % 90, t % 2) for t in range(40)]
    header = HEADER_31.replace(b"DVS128", b"DAVIS240C\r\n#Source 2: DVS128")
    path = tmp_path / "two.aedat"
    both = [packet_31(rows), packet_31(rows[:24], source=2)]
    path.write_bytes(aedat_31(both, header))
    options = ["--url", server.url, "--speed", "max", "--camera", "all", "--json"]
    assert stream([str(path), *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scored = {
        line["camera"]: line["events_scored"] + line["events_pending"]
        for line in lines
        if line["type"] == "summary"
    }
    assert scored == {"1 DAVIS240C": 40, "2 DVS128": 24}
    assert stream([str(path), *options[:4]]) == 0
    assert "camera 1 DAVIS240C is read; the file also" in capsys.readouterr().err


def test_a_guess_is_announced_before_the_stream(server, capsys, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(csv_bytes([(t, 200 + t, 5, 1) for t in range(40)]))
    assert stream([str(path), "--url", server.url, "--speed", "max"]) == 0
    told = "a.csv: its sensor is guessed to be 240x6; --sensor WxH says it"
    assert told in capsys.readouterr().err


def test_a_server_that_cannot_start_shows_its_last_words(tmp_path):
    with (
        ServerProcess(["--model", str(tmp_path / "nothing")]) as process,
        pytest.raises(ServerFailed, match="nothing") as failed,
    ):
        process.wait_until_ready(lambda text: None)
    assert "the server ended with status" in failed.value.reason


def test_leaving_the_context_leaves_no_process():
    with ServerProcess() as process:
        pass
    assert process.stop() != 0
    with pytest.raises(ServerUnreachable):
        http.readiness(process.url)


def wait_until_it_drains(url):
    while http.readiness(url)[0]:
        time.sleep(0.01)


@pytest.mark.slow
async def test_an_opening_at_a_server_that_drains_succeeds_at_its_successor(arguments):
    waits = []
    waiting = asyncio.Event()

    def on_wait(wait):
        waits.append(wait)
        waiting.set()

    async def open_and_close(url):
        reconnecting = Reconnecting(on_wait=on_wait)
        async with connect(url, model="motions", reconnecting=reconnecting) as stream:
            await stream.close()
        return stream

    def ready(process):
        return asyncio.to_thread(process.wait_until_ready, lambda text: None)

    with ServerProcess([*arguments, "--drain-s", "60"]) as first:
        await ready(first)
        async with connect(first.url, model="motions"):
            os.kill(first.pid, signal.SIGTERM)
            await asyncio.to_thread(wait_until_it_drains, first.url)
            opening = asyncio.create_task(open_and_close(first.url))
            await waiting.wait()
        assert await asyncio.to_thread(first.stop) == 0
    assert "the server is stopping" in str(waits[0].cause)
    assert not opening.done()
    with ServerProcess(arguments, port=urlsplit(first.url).port) as second:
        await ready(second)
        stream = await opening
    assert stream.opened.model == "motions"
    assert stream.stats.reconnects == 0
