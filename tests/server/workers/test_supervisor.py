"""The supervisor ends its processes, also those that never got as far as to answer."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from saccade.server.serving import CannotServe
from saccade.server.settings import Settings
from saccade.server.workers.assignment import ENGINE, Assignment
from saccade.server.workers.supervisor import Supervisor

ENDLESS = "import time; time.sleep(3600)"
AT_ONCE = "pass"


async def test_a_server_that_cannot_serve_waits_for_no_worker_that_was_never_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[Process] = []
    ends: list[socket.socket] = []
    all_began = asyncio.Event()

    async def start(assignment: Assignment) -> tuple[Process, socket.socket]:
        """Start a worker that stays deaf, as while it imports; an engine that ends."""
        ours, theirs = socket.socketpair()
        program = AT_ONCE if assignment.index == ENGINE else ENDLESS
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        began.append(process)
        ends.append(theirs)
        if len(began) == 3:
            all_began.set()
        return process, ours

    monkeypatch.setattr(Assignment, "start", start)
    settings = Settings(workers=2, drain_s=3600.0)
    supervisor = Supervisor(settings, [], tmp_path, tmp_path)
    serving = asyncio.create_task(supervisor.run(time.perf_counter()))
    await all_began.wait()
    await supervisor._cannot_serve("the store cannot be used")
    with pytest.raises(CannotServe, match="the store cannot be used"):
        await serving
    assert all(process.returncode is not None for process in began)
    for each in ends:
        each.close()
