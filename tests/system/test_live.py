"""`saccade stream` of what is live, filtered, recorded or raw, to a real server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from saccade.model.events.recordings import open_recording
from saccade.model.events.simulator.camera import simulate

faery = pytest.importorskip("faery")
SIDE = 128


def stream(server, *argv, **options):
    """Run the command, with one line of JSON a result; return its last line."""
    command = [sys.executable, "-m", "saccade", "stream", *map(str, argv), "--json"]
    url = server.url.replace("http", "ws")
    done = subprocess.run(
        [*command, "--url", url, "--report", "flush"],
        capture_output=True,
        check=False,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.splitlines()[-1]), done.stderr.decode()


@pytest.fixture(scope="module")
def scene():
    return simulate("left", seed=11, duration_us=400_000)


@pytest.fixture(scope="module")
def raw_file(scene, tmp_path_factory):
    events = np.empty(scene.size, faery.EVENTS_DTYPE)
    for ours, theirs in (("t", "t"), ("x", "x"), ("y", "y"), ("p", "on")):
        events[theirs] = scene[ours]
    path = tmp_path_factory.mktemp("raw") / "scene.raw"
    faery.events_stream_from_array(events, (SIDE, SIDE)).to_file(path, version="evt3")
    return path


def test_forwarded_bytes_are_scored_as_their_events_and_so_is_standard_input(
    server, scene, raw_file
):
    model = ("--model", "motions", "--speed", "max")
    decoded, _ = stream(server, raw_file, *model)
    forwarded, _ = stream(server, raw_file, "--raw", *model)
    piped, _ = stream(server, "stdin", *model, input=raw_file.read_bytes())
    assert decoded["events_scored"] + decoded["events_pending"] == scene.size
    for other in (forwarded, piped):
        assert other["label"] == decoded["label"] == "left"
        assert other["events_scored"] == decoded["events_scored"]
        assert other["events_sent"] == scene.size
    assert forwarded["confidence"] == pytest.approx(decoded["confidence"], abs=1e-6)


def test_what_a_socket_receives_is_scored_filtered_and_recorded(
    server, scene, tmp_path
):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = tmp_path / "kept.aedat4"
    argv = [f"udp://127.0.0.1:{port}", "--model", "motions", "--sensor", "128x128"]
    argv += ["--record", str(kept), "--filter", "noise", "--when-full", "block"]
    argv += ["--json", "--report", "events:512"]
    command = [sys.executable, "-m", "saccade", "stream", *argv, "--url"]
    dtype = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")]
    datagrams = [piece.astype(dtype).tobytes() for piece in np.array_split(scene, 100)]
    streaming = subprocess.Popen(
        [*command, server.url.replace("http", "ws")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with streaming, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        os.set_blocking(streaming.stdout.fileno(), False)
        offset_us, lines = 0, b""
        while lines.count(b"\n") < 5:
            assert streaming.poll() is None, streaming.stderr.read()
            shifted = scene.copy()
            shifted["t"] += offset_us
            offset_us += 400_000
            for piece in np.array_split(shifted, len(datagrams)):
                sender.sendto(piece.astype(dtype).tobytes(), ("127.0.0.1", port))
            lines += streaming.stdout.read() or b""
        streaming.send_signal(2)
        os.set_blocking(streaming.stdout.fileno(), True)
        lines += streaming.stdout.read()
        said = streaming.stderr.read().decode()
    summary = json.loads(lines.splitlines()[-1])
    assert summary["interrupted"]
    assert "events (noise)" in said
    recorded = sum(map(len, open_recording(kept).events))
    assert recorded >= summary["events_sent"] > 1_000


def test_noise_of_a_chosen_rate_is_streamed(server):
    argv = ["sim:noise?rate=20000&seconds=1", "--speed", "max", "--max-events", "1000"]
    summary, said = stream(server, *argv, "--filter", "noise", "--filter", "hotpixel")
    assert "events (noise)" in said
    assert summary["events_sent"] < 10_000
