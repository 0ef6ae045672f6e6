"""The benchmark of snapshots compares two servers, and says what it saw."""

from __future__ import annotations

import json

import pytest

from benchmarks import snapshots


@pytest.mark.slow
def test_the_server_that_saves_is_compared_with_one_that_does_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(snapshots, "WARM_UP_S", 0.2)
    path = tmp_path / "rounds.json"
    load = ["--sessions", "4", "--rate", "500", "--seconds", "2", "--rounds", "1"]
    arguments = [*load, "--json", str(path), "--", "--snapshot-s", "0.2"]
    assert snapshots.main(arguments) == 0
    ((off, on),) = json.loads(path.read_text())["rounds"]
    assert off["saved_per_s"] == 0
    assert on["saved_per_s"] > 0
    assert min(off["cpu_s"], on["cpu_s"]) > 0
    assert "with ÷ without" in capsys.readouterr().out
