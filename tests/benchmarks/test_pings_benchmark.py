"""A busy server stays in touch with the sessions of an ordinary websocket library."""

from __future__ import annotations

import json

import pytest

from benchmarks import pings


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_sessions_at_full_speed_are_not_closed(workers, tmp_path, capsys):
    path = tmp_path / "pings.json"
    arguments = ["--sessions", "16", "--seconds", "5", "--workers", f"{workers}"]
    status = pings.main([*arguments, "--json", str(path)])
    found = json.loads(path.read_text())
    assert found["crowd"]["closes"] == found["pongs"]["closes"] == []
    assert found["crowd"]["events"] > 0
    assert found["pongs"]["took_s"]
    assert status == 0
    assert "pong p50" in capsys.readouterr().out
