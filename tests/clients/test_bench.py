"""`saccade bench` against a real server process; the model is small and untrained."""

from __future__ import annotations

import asyncio
import json

import pytest

from saccade.clients.benchmark.crew import Crew, probe
from saccade.clients.benchmark.session import Load
from saccade.clients.commands import bench as command
from saccade.clients.commands.cli import bench
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.errors import LoadFailed, StreamError
from saccade.model.events.simulator.scenes import MOTIONS
from tests.clients.untrained import TICK_EVENTS, save_untrained

SOON = ["--source", "random", "--seconds", "0.2"]
WINDOW = ["--window-events", "8192", "--window-bytes", "65536"]
"""Small, so that little is left to score once a load has ended."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("untrained") / "motions"
    save_untrained(path, "motions", MOTIONS, 128)
    arguments = ["--buckets", "1x8", *WINDOW, "--max-frame-bytes", "65536"]
    with ServerProcess([*arguments, "--model", str(path)]) as process:
        process.wait_until_ready(lambda text: None)
        yield process


def test_a_session_at_full_speed_is_measured_and_every_event_is_scored(
    server, tmp_path, capsys
):
    numbers, picture = tmp_path / "it.json", tmp_path / "it.png"
    argv = [server.url, *SOON, "--json", str(numbers), "--png", str(picture)]
    assert bench([*argv, "--frame-events", "256"]) == 0
    report = json.loads(numbers.read_text())
    (step,) = report["steps"]
    assert step["sent_events"] == step["scored_events"] > 0
    ticks = step["results"] + step["left_out"]
    assert ticks == step["sent_events"] // TICK_EVENTS
    assert 0 < step["latency_p50_ms"] <= step["latency_p99_ms"]
    assert step["latency_p99_ms"] <= step["latency_p99.9_ms"] * 1.02
    assert (step["dropped"], step["late"], step["lost"]) == (0, 0, [])
    assert {"processor", "instruction_set", "versions"} <= set(report["client"])
    assert report["server"]["tick_events"] == TICK_EVENTS
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "full speed, frames of 256, report tick" in capsys.readouterr().out


def test_a_ramp_ends_with_the_most_sensors_that_were_served(server, tmp_path, capsys):
    numbers = tmp_path / "ramp.json"
    argv = [server.url, *SOON, "--ramp", "--rate", "2000", "--json", str(numbers)]
    assert bench([*argv, "--sessions", "2", "--p99-ms", "60000"]) == 0
    report = json.loads(numbers.read_text())
    assert [step["sessions"] for step in report["steps"]] == [1, 2]
    assert report["capacity"] == 2
    assert all(step["left_out"] == 0 for step in report["steps"])
    assert "capacity: 2 sensors or more" in capsys.readouterr().out


def test_a_bound_that_is_not_met_is_an_exit_status_and_a_remark(server, capsys):
    argv = [server.url, *SOON, "--rate", "2000", "--p99-ms", "0.0001"]
    assert bench(argv) == 1
    assert "p99" in capsys.readouterr().out


def test_the_sums_of_every_session_are_the_events_that_were_sent(server):
    opening = {"model": "motions", "sensor": [128, 128], "report": {"every": "flush"}}
    with Crew(server.url, Load(opening, 100), sessions=3, processes=2) as crew:
        runs = [crew.run(0.2) for _ in range(2)]
        closed = crew.close()
    sent = sum(run.sent_events for run in runs)
    assert closed["sent"] == sent == closed["events"] + closed["pending"]
    assert (closed["unanswered"], closed["wrong"]) == (0, 0)
    assert [run.sessions for run in runs] == [3, 3]
    assert all(run.scored_events == run.sent_events for run in runs)
    assert all(run.complete and run.settled for run in runs)


def test_a_models_tick_is_found_out_by_scoring_one(server):
    found = asyncio.run(probe(server.url, {"model": "motions"}))
    assert found.opened["tick_events"] == TICK_EVENTS
    assert found.held_back == 0


def test_a_refused_session_is_the_servers_own_error(server, capsys):
    with pytest.raises(StreamError) as refused:
        asyncio.run(probe(server.url, {"model": "motions", "encoding": "evt9"}))
    assert (refused.value.code, refused.value.field) == ("invalid_field", "encoding")
    assert bench([server.url, *SOON, "--model", "other"]) == 1
    assert "'other'" in capsys.readouterr().err


def test_a_source_shorter_than_a_frame_is_named(server, tmp_path, capsys):
    path = tmp_path / "short.csv"
    path.write_text("t,x,y,p\n1,2,3,1\n")
    argv = [server.url, "--source", str(path), "--sensor", "128x128"]
    assert bench([*argv, "--seconds", "0.1"]) == 1
    assert "there are 1 events, less than a frame" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--ramp", "--rate", "max"], "--ramp needs a rate"),
        (["--json", "/nowhere/at/all.json"], "no folder /nowhere/at"),
        (["--source", "missing.raw"], "no such file"),
        (["127.0.0.1:1", "--source", "random"], "no Saccade server answers"),
    ],
)
def test_what_cannot_be_done_is_one_line(argv, complaint, capsys):
    assert bench(argv) == 1
    assert complaint in capsys.readouterr().err


def test_a_picture_without_matplotlib_names_what_brings_it(monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    options = command.parser().parse_args(["--png", "it.png"])
    with pytest.raises(LoadFailed, match=r"pip install 'saccade\[train\]'"):
        command.execute(options)
