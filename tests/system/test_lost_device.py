"""A server whose GPU is lost for good ends, and its sessions go on with the next."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.connection import connect
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.server.serving import LOST_STATUS
from tests import losing_server
from tests.clients.untrained import save_untrained
from tests.system.survivors import BRISK
from tests.toy import some_events

SIDE, FRAME, FRAMES = 4, 64, 40
EVENTS = some_events(FRAME * FRAMES)


@contextmanager
def fragile(folder: Path, *options: str) -> Iterator[tuple[ServerProcess, Path]]:
    """Start a server that loses its device once the file is there; yield both."""
    save_untrained(folder / "net", "net", ("a", "b"), SIDE)
    flag, store = folder / "lose", str(folder / "sessions.sqlite")
    process = ServerProcess(
        [
            *("--store", "sqlite", "--store-path", store, "--snapshot-s", "0.05"),
            *("--model", str(folder / "net"), "--buckets", "1x1,4x4", *options),
        ]
    )
    serve = process._command.index("serve")
    launcher = [sys.executable, losing_server.__file__, str(flag)]
    process._command = [*launcher, *process._command[serve + 1 :]]
    with process:
        process.wait_until_ready(lambda text: None)
        yield process, flag


def whole_log(process: ServerProcess) -> str:
    """Return all that a server has written; compilers write a lot."""
    return os.pread(process._log.fileno(), 1 << 24, 0).decode(errors="replace")


async def scored(url: str, events: Events, lose: Path | None = None) -> list[float]:
    """Stream events and return the last scores; lose the device half-way."""
    sensor = Sensor(SIDE, SIDE)
    async with connect(url, model="net", sensor=sensor, reconnecting=BRISK) as stream:
        for start in range(0, len(events), FRAME):
            await stream.send(events[start : start + FRAME])
            await stream.flush()
            if lose is not None and start == len(events) // 2:
                lose.touch()  # noqa: ASYNC240
        closed = await stream.close()
        assert lose is None or stream.stats.reconnects >= 1
    assert closed.events == len(events)
    return list(closed.logits or [])


@pytest.mark.slow
async def test_one_process_saves_its_sessions_and_asks_to_be_started_again(
    tmp_path: Path,
) -> None:
    with fragile(tmp_path) as (process, flag):
        expected = await scored(process.url, EVENTS)
        going = asyncio.create_task(scored(process.url, EVENTS, flag))
        assert await asyncio.to_thread(process._process.wait, 120) == LOST_STATUS
        assert "the device is lost" in whole_log(process)
        process.restart()
        found = await asyncio.wait_for(going, 120)
    assert found == expected


@pytest.mark.slow
async def test_the_engine_process_is_started_again_and_the_server_stays(
    tmp_path: Path,
) -> None:
    with fragile(tmp_path, "--workers", "1") as (process, flag):
        expected = await scored(process.url, EVENTS)
        found = await asyncio.wait_for(scored(process.url, EVENTS, flag), 240)
        assert process.running
        assert f"ended with status {LOST_STATUS}" in whole_log(process)
    assert found == expected
