"""One stray event in a recording: what it costs, and what the commands say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saccade
from saccade.clients.commands.cli import classify, stream
from tests.clients.scripted import moving


@pytest.fixture
def stray(tmp_path: Path) -> str:
    """A recording of 20,000 events of a 128x128 sensor, one at x = 131."""
    events = moving(20_000, step_us=50)
    events["x"][12_000] = 131
    np.save(tmp_path / "stray.npy", events)
    return str(tmp_path / "stray.npy")


def options(server: Any, *more: str) -> list[str]:
    return ["--model", "motions", "--sensor", "128x128", "--url", server.url, *more]


def test_a_refused_frame_has_its_reason_shown_and_the_command_fails(
    server, stray, capsys
):
    play = ["--speed", "max", "--json"]
    assert stream([stray, *options(server, *play)]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["frames_refused"] == 1
    assert "x is 131 and must be below 128" in summary["first_refusal"]
    assert classify([stray, *options(server)]) == 1
    assert "event 12000 has x = 131" in capsys.readouterr().err


def test_a_stray_event_that_is_skipped_costs_itself_alone(server, stray, capsys):
    chosen = options(server, "--invalid", "skip", "--json")
    assert stream([stray, *chosen, "--speed", "max"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["events_skipped"] == 1
    assert summary["events_scored"] + summary["events_pending"] == 19_999
    assert classify([stray, *chosen]) == 0
    captured = capsys.readouterr()
    (answer,) = json.loads(captured.out)
    assert (answer["skipped"], answer["label"]) == (1, summary["label"])
    assert answer["events"] == summary["events_scored"]
    assert "1 invalid event is left out; the first: event 12000 has" in captured.err


def test_results_have_the_time_of_the_recording_s_clock(server, tmp_path, capsys):
    start_us = 1_700_000_000_000_000
    events = moving(1_000, start_us=start_us, step_us=50)
    np.save(tmp_path / "epoch.npy", events)
    play = [str(tmp_path / "epoch.npy"), *options(server, "--speed", "max", "--json")]
    assert stream(play) == 0
    *results, summary = map(json.loads, capsys.readouterr().out.splitlines())
    scored = [result["events"] for result in results]
    assert [r["t_us"] for r in results] == [int(events["t"][n - 1]) for n in scored]
    assert summary["stream_s"] < 1


def test_a_timestamp_far_in_the_future_costs_its_session_nothing_lasting(server):
    events, url = moving(2_000, step_us=50), server.url.replace("http", "ws")
    far = events[999:1000].copy()
    far["t"] = 2**40
    with saccade.blocking.connect(url, model="motions") as stream:
        for part in (events[:1000], far, events[1000:]):
            stream.send(part)
        flushed = stream.flush()
    assert flushed.events + flushed.pending == 2_001
    assert flushed.t_us < 100_000
    assert flushed.confidence > 0
