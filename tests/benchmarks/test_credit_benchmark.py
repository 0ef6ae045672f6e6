"""A client that ignores its credit costs a server a bounded part of its memory."""

from __future__ import annotations

import json

import pytest

from benchmarks import credit


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_client_that_ignores_its_credit_takes_little_of_a_servers_memory(
    workers, tmp_path, capsys
):
    path = tmp_path / "floods.json"
    arguments = ["--workers", f"{workers}", "--seconds", "1.5", "--json", str(path)]
    status = credit.main(arguments)
    floods = json.loads(path.read_text())["floods"]
    assert {flood["kind"] for flood in floods} == {*credit.WHAT}
    window_mib = 4
    assert all(flood["sent_mib"] > window_mib for flood in floods), floods
    assert max(flood["grown_mib"] for flood in floods) < credit.BOUND_MIB, floods
    assert status == 0
    assert "ignore their credit" in capsys.readouterr().out
