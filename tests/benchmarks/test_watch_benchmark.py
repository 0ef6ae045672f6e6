"""The benchmark of watching compares slices of a real server, and says what it saw."""

from __future__ import annotations

import json

import pytest

from benchmarks import watch
from benchmarks.watch import CASES, QUICK, Row, Slice, spread


def test_a_ratio_is_of_one_round_s_two_slices():
    rounds = [(Slice(100.0, 2.0), Slice(50.0, 3.0)), (Slice(10.0, 1.0),) * 2]
    row = Row(CASES[0], rounds, 0)
    assert row.throughput == [0.5, 1.0]
    assert row.cpu == [1.5, 1.0]
    assert spread(row.throughput) == "0.750 (0.625 to 0.875)"
    assert {*QUICK} < {*CASES}


@pytest.mark.slow
def test_the_benchmark_watches_a_session_at_full_speed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(watch, "CASES", CASES[:1])
    monkeypatch.setattr(watch, "WARM_UP_S", 0.2)
    path = tmp_path / "rows.json"
    assert watch.main(["--rounds", "2", "--seconds", "0.3", "--json", str(path)]) == 0
    (row,) = json.loads(path.read_text())
    assert len(row["rounds"]) == 2
    assert row["shown_bytes"] > 1000, "the watcher was shown events"
    assert all(alone[0] > 0 and watched[0] > 0 for alone, watched in row["rounds"])
    assert "watched" in capsys.readouterr().out
