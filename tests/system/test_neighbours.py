"""Abusive clients leak no slot, keep no memory and change no other client's score."""

from __future__ import annotations

import asyncio
import os

import pytest

from benchmarks.neighbours import resident_mib, slots_used
from benchmarks.nuisances import Nuisances
from saccade.clients.commands.server_process import ServerProcess
from tests.system.crowd import crowd
from tests.system.offline import CHECKPOINTS
from tests.toy import wait_until

WARMING_S = 4.0
NUISANCE_S = 10.0
MORE_MIB = 128.0
"""Two full backlogs, each once in the engine, once in a snapshot, once encoded."""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="memory is read from /proc")
async def test_nuisances_leak_no_slot_and_keep_no_memory() -> None:
    arguments = ["--model", str(CHECKPOINTS / "nmnist"), "--buckets", "1x1,4x4,1x16"]
    with ServerProcess(arguments) as server:
        server.wait_until_ready(lambda text: None)
        async with crowd(server.url):
            await let_loose(server, WARMING_S)
            before_mib = resident_mib(server.pid)
            counts = await let_loose(server, NUISANCE_S)
            after_mib = resident_mib(server.pid)
        assert counts["vanished"] == 200
        assert counts["flooded frames"] > 0
        assert counts["unread frames"] > 0
        assert after_mib - before_mib < MORE_MIB
        wait_until(lambda: slots_used(server.url) == 0)


async def let_loose(server: ServerProcess, seconds: float) -> dict[str, int]:
    nuisances = Nuisances(server.url, "nmnist", seconds, vanishings=200)
    await asyncio.to_thread(nuisances.run)
    return nuisances.counts
