from __future__ import annotations

import argparse
import math
import subprocess
import sys

import pytest

from saccade.clients.commands import arguments
from saccade.clients.commands.arguments import run_command
from saccade.clients.commands.cli import classify, stream
from saccade.clients.commands.stream import default_readout
from saccade.clients.display.text import (
    brief,
    clock,
    columns,
    milliseconds,
)
from saccade.clients.sources import open_source
from saccade.model.events.sensor import Sensor
from saccade.server.protocol.messages import ReadoutWindow, Report


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["sim:motions", "--speed", "0"], "above 0, or max"),
        (["sim:motions", "--speed", "fast"], "above 0, or max"),
        (["sim:motions", "--sensor", "640"], "no WIDTHxHEIGHT"),
        (["sim:motions", "--sensor", "0x480"], "width 0"),
        (["sim:motions", "--report", "events:0"], "events:N"),
        (["sim:motions", "--report", "often"], "tick, change"),
        (["sim:motions", "--report", "tick:5"], "tick, change"),
        (["sim:motions", "--report", "tick:"], "tick, change"),
        (["sim:motions", "--half-life", "-1"], "half-life"),
        (["sim:motions", "--frame-events", "1.5"], "whole number"),
        (["sim:motions", "--frame-events", "5", "--frame-ms", "5"], "not allowed with"),
        (["sim:motions", "--fit", "stretch"], "invalid choice"),
        (["sim:motions", "--clock-bits", "8"], "no number from 16 to 48"),
        (["sim:motions", "--url", "ftp://h"], "no address"),
        ([], "SOURCE"),
    ],
)
def test_a_mistaken_argument_is_named(argv, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        stream(argv)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_arguments_become_values():
    assert arguments.speed("max") == math.inf
    assert arguments.sensor("640x480") == Sensor(640, 480)
    assert arguments.report("events:250") == Report("events", 250)
    assert arguments.report("change") == Report("change")
    assert arguments.readout("off") == ReadoutWindow()
    assert arguments.readout("250") == ReadoutWindow("half_life", 250.0)
    with pytest.raises(argparse.ArgumentTypeError):
        arguments.milliseconds("nan")


def test_a_changing_scene_is_scored_by_its_recent_past():
    assert default_readout(open_source("sim:motions")).window == "half_life"


def test_a_server_that_does_not_run_is_one_clear_line(unused_tcp_port, capsys):
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    assert stream(["sim:motions?seconds=1", "--url", url]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"saccade stream: no Saccade server answers at {url}")
    assert message.endswith("Start one with: saccade serve\n")


def test_a_missing_file_is_reported_before_a_server_is_asked(capsys):
    assert stream(["nowhere.bin"]) == 1
    assert classify(["nowhere.bin"]) == 1
    assert capsys.readouterr().err.count("there is no such file") == 2


def test_a_missing_package_names_the_extra_that_brings_it(capsys):
    def action():
        raise ModuleNotFoundError("No module named 'rich'", name="rich")

    assert run_command("stream", action) == 1
    assert "pip install 'saccade[terminal]'" in capsys.readouterr().err


def test_an_interrupt_ends_a_command_quietly(capsys):
    def action():
        raise KeyboardInterrupt

    assert run_command("stream", action) == 130
    assert capsys.readouterr().err == ""


def test_a_sensor_host_needs_only_the_base_install():
    script = (
        "import sys; sys.modules.update(dict.fromkeys("
        "['jax', 'flax', 'fastapi', 'rich', 'httpx', 'faery', 'evt3',"
        " 'h5py', 'rosbags', 'prometheus_client']))\n"
        "from saccade.clients import blocking, connection\n"
        "from saccade.clients.commands import cli\n"
        "from saccade.clients.sources import open_source\n"
        "next(open_source('sim:motions').chunks)\n"
        "sys.exit(cli.stream(['sim:motions', '--url', '127.0.0.1:1']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 2), done.stderr
    assert "no Saccade server answers" in done.stderr


def test_a_sensor_host_streams_a_table_to_a_named_model(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("t,x,y,p\n0,1,2,1\n")
    script = (
        "import sys; sys.modules['httpx'] = None\n"
        "from saccade.clients.commands import cli\n"
        f"words = [{str(table)!r}, '--url', '127.0.0.1:1', '--model', 'm']\n"
        "sys.exit(cli.stream(words))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "no Saccade server answers" in done.stderr, done.stderr
    assert "a.csv: its sensor is guessed to be 2x3" in done.stderr


def test_numbers_are_written_briefly():
    assert [brief(n) for n in (0, 7, 999, 999_600, 1_234_567, 5e9)] == [
        "0", "7", "999", "1 M", "1.23 M", "5 G",
    ]  # fmt: skip
    assert [clock(s) for s in (0, 9.96, 75.31, 3600)] == [
        "0:00.0", "0:10.0", "1:15.3", "60:00.0",
    ]  # fmt: skip
    assert [milliseconds(ms) for ms in (0.25, 99.94, 123.4, 12_345)] == [
        "0.2 ms", "99.9 ms", "123 ms", "12.3 s",
    ]  # fmt: skip


def test_columns_align_figures_to_the_right():
    table = columns([("file", "events"), ("1.bin", "7"), ("b", "12,345")], figures={1})
    assert table == "file   events\n1.bin       7\nb      12,345\n"
