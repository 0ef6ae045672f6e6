from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from saccade.clients.display.live import (
    LiveView,
    bar,
    captions,
    picture,
    summary_picture,
)
from saccade.clients.display.plain import JsonView, PlainView
from saccade.clients.display.statistics import Latency, Moment, Snapshot, Summary
from saccade.model.events.reading import Findings, Trigger
from tests.clients.scripted import result

SNAPSHOT = Snapshot(
    source="sim:motions",
    model="motions",
    labels=["left", "right", "still"],
    scores=[0.03, 0.92, 0.05],
    label="right",
    confidence=0.92,
    truth="right",
    stream_s=75.31,
    wall_s=75.4,
    events=1_234_567,
    events_per_s=61_000.0,
    latency=Latency(3.21, 8.8),
    waiting=512,
    refused_events=0,
    dropped_events=0,
    skipped_results=0,
    history=[
        Moment(0, "left", 0.4, "left"),
        Moment(9, "right", 0.9, "right"),
        Moment(19, "right", 0.92, "right"),
    ],
)
SUMMARY = Summary(
    source="digit.bin",
    model="nmnist",
    events_sent=4325,
    events_scored=4288,
    events_pending=37,
    events_refused=0,
    events_dropped=0,
    frames_refused=0,
    label="7",
    confidence=0.987,
    stream_s=0.311,
    wall_s=0.35,
    events_per_s=12_300.0,
    latency_p50_ms=3.2,
    latency_p99_ms=8.8,
    results=67,
    results_skipped=0,
    agreement=None,
    interrupted=False,
)


def drawn(renderable, width=88):
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_picture_shows_scores_figures_and_the_truth():
    text = drawn(picture(SNAPSHOT))
    for expected in (
        "sim:motions", "→ motions", "1:15.3", "right  92.0 %", "✓ really right",
        "1.23 M events", "61 k events/s", "3.2 ms latency", "8.8 ms p99",
        "512 on the way",
    ):  # fmt: skip
        assert expected in text
    lengths = {
        line.split()[0]: line.count("█") for line in text.splitlines() if " %" in line
    }
    assert lengths["right"] > 30 > lengths["left"]


def test_a_wrong_label_is_marked_as_one():
    text = drawn(picture(replace(SNAPSHOT, truth="left")))
    assert "≠ really left" in text


def test_the_strip_names_what_was_seen_and_what_was_there():
    text = drawn(picture(SNAPSHOT))
    assert text.count("╵left    ╵right") == 2


def test_a_recording_without_a_truth_claims_none():
    history = [moment._replace(truth=None) for moment in SNAPSHOT.history]
    text = drawn(picture(replace(SNAPSHOT, truth=None, history=history)))
    assert "really" not in text
    assert text.count("╵left") == 1


def test_losses_are_shown_only_when_there_are_any():
    assert "refused" not in drawn(picture(SNAPSHOT))
    losses = {"refused_events": 9, "dropped_events": 7, "skipped_results": 4}
    text = drawn(picture(replace(SNAPSHOT, **losses)))
    assert "9 refused" in text
    assert "7 dropped" in text
    assert "4 results skipped" in text


def test_before_the_first_tick_the_picture_waits():
    empty = replace(
        SNAPSHOT, scores=None, label=None, truth=None, latency=None, history=[]
    )
    text = drawn(picture(empty))
    assert "waiting for the first tick" in text
    assert "latency" not in text


def test_many_classes_show_the_highest_scores():
    labels = [f"word{number}" for number in range(35)]
    scores = [number / 630 for number in range(35)]
    many = replace(SNAPSHOT, labels=labels, scores=scores, label="word34", truth=None)
    text = drawn(picture(many))
    assert "word34" in text
    assert "word3 " not in text
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize("width", [60, 88, 200])
def test_the_picture_fits_its_terminal(width):
    text = drawn(picture(SNAPSHOT), width)
    assert max(map(len, text.splitlines())) <= width


def test_a_bar_is_drawn_to_an_eighth_of_a_column():
    assert bar(0, 10) == ""
    assert bar(1, 10) == "█" * 10
    assert bar(0.55, 10) == "█████▌"


def test_captions_stand_under_their_runs():
    assert captions(["a", "a", "a", "bcd", "bcd", "e"]) == "╵a ╵b╵"


def test_the_summary_says_how_it_went():
    text = drawn(summary_picture(SUMMARY))
    assert "7  98.7 %" in text
    assert "4,325 sent, 4,288 scored, 37 pending" in text
    assert "3.2 ms median, 8.8 ms p99" in text
    assert "refused" not in text
    assert "dropped" not in text
    assert "agreement" not in text


def test_the_summary_says_what_was_dropped_to_keep_up():
    text = drawn(summary_picture(replace(SUMMARY, events_dropped=1536)))
    assert "1,536 events, to keep up" in text


def test_a_recording_too_short_for_a_tick_says_so():
    short = replace(SUMMARY, label=None, confidence=None, latency_p50_ms=None)
    assert "too few events for a tick" in drawn(summary_picture(short))


def test_the_live_view_leaves_only_the_summary_behind():
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=88))
    with view:
        view.add(result(4))
        view.show(SNAPSHOT)
        view.show(replace(SNAPSHOT, label="left"))
    view.finish(SUMMARY)
    assert out.getvalue().rstrip().endswith("67")
    assert "\x1b[?25h" in out.getvalue()  # the cursor is back


def test_a_log_gets_one_line_a_second_and_the_summary():
    out = io.StringIO()
    with PlainView(out) as view:
        for tenths in range(25):
            view.show(replace(SNAPSHOT, wall_s=tenths / 10))
    view.finish(SUMMARY)
    lines = out.getvalue().splitlines()
    assert [line.startswith("  1:15.3  right") for line in lines[:4]] == [True] * 3 + [
        False
    ]
    assert "really right" in lines[0]
    assert lines[3].split() == ["label", "7", "98.7", "%"]


def test_a_program_gets_a_line_of_json_for_each_result_and_the_summary():
    out = io.StringIO()
    with JsonView(out) as view:
        view.add(result(4))
        view.show(SNAPSHOT)
    view.finish(SUMMARY)
    first, last = map(json.loads, out.getvalue().splitlines())
    assert (first["type"], first["label"], first["events"]) == ("result", "left", 4)
    assert (last["type"], last["events_sent"]) == ("summary", 4325)


def test_triggers_stand_between_the_results_in_order_of_time():
    out = io.StringIO()
    findings = Findings(triggers=[Trigger(1_500, 0, True)], start_us=500)
    with JsonView(out, findings=findings) as view:
        view.add(result(4))  # at 4,000 µs
        findings.triggers += [Trigger(6_500, 0, False), Trigger(8_500, 1, True)]
        view.add(result(8))
    view.finish(SUMMARY)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["type"], line.get("t_us")) for line in lines] == [
        ("trigger", 2_000),
        ("result", 4_000),
        ("trigger", 7_000),
        ("result", 8_000),
        ("trigger", 9_000),
        ("summary", None),
    ]
    assert lines[0] == {"type": "trigger", "t_us": 2_000, "channel": 0, "rising": True}
