"""Damaged input of every kind on real sockets, and a crowd whose scores stay right."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator

import httpx
import msgpack
import pytest

from saccade.clients import http
from saccade.clients.commands.server_process import ServerProcess
from tests.fuzzing import Mutator
from tests.system.crowd import crowd
from tests.system.hostile import Hostile
from tests.system.offline import CHECKPOINTS
from tests.toy import wait_until

pytestmark = pytest.mark.slow

CONNECTIONS = 4000
REQUESTS = 600
CODES = (1000, 1002, 1007, 1009, 4404, 4409)
DOCUMENTED = {f"close {code}" for code in CODES}


@pytest.fixture(scope="module")
def process() -> Iterator[ServerProcess]:
    arguments = ["--model", str(CHECKPOINTS / "nmnist"), "--buckets", "1x1,4x4"]
    with ServerProcess(arguments) as process:
        process.wait_until_ready(lambda text: None)
        yield process


def complaints(process: ServerProcess) -> set[str]:
    """Return what the server has complained of; XLA complains of its own files."""
    file = process._log.fileno()
    lines = os.pread(file, os.fstat(file).st_size, 0).decode().splitlines()
    words = ("WARNING", "ERROR", "CRITICAL", "Traceback")
    return {line for line in lines if line.startswith(words)}


def is_well(process: ServerProcess) -> None:
    """Make sure that the server is ready, lends no slot and has logged no fault."""
    assert http.readiness(process.url)[0]
    wait_until(lambda: slots_used(process) == 0)
    assert complaints(process) == set()


def slots_used(process: ServerProcess) -> float:
    (used,) = (s for s in http.metrics(process.url) if s.name == "saccade_slots_used")
    return used.value


async def test_hostile_sockets_change_no_score_and_break_nothing(
    process: ServerProcess,
) -> None:
    attackers = [Hostile(process.url, seed) for seed in (1, 2)]
    async with crowd(process.url), asyncio.TaskGroup() as group:
        for attacker in attackers:
            group.create_task(
                asyncio.to_thread(attacker.attack, CONNECTIONS // len(attackers))
            )
    seen = sum((attacker.seen for attacker in attackers), Counter[str]())
    sys.stdout.write(f"\n{seen}\n")
    assert {name for name in seen if name.startswith("close")} <= DOCUMENTED
    assert not {name for name in seen if name.startswith("status 5")}
    is_well(process)


async def test_hostile_requests_change_no_score_and_break_nothing(
    process: ServerProcess,
) -> None:
    mutator = Mutator(3)
    columns = {"t": [0, 1, 2], "x": [1, 2, 3], "y": [1, 2, 3], "p": [0, 1, 0]}
    body = {"model": "nmnist", "recordings": [columns, {"data": bytes(16)}]}
    listed = {**body, "recordings": [columns, {"data": "AAAAAAAAAAA="}]}
    forms = {
        "application/json": json.dumps(listed),
        "application/msgpack": msgpack.packb(body),
    }

    def attack() -> Counter[int]:
        seen: Counter[int] = Counter()
        with httpx.Client(base_url=process.url, timeout=30) as client:
            for number in range(REQUESTS):
                media_type, whole = [*forms.items()][number % len(forms)]
                answer = client.post(
                    "/v1/classify",
                    content=mutator.wire(whole),
                    headers={"Content-Type": media_type},
                )
                seen[answer.status_code] += 1
                assert answer.json()
        return seen

    async with crowd(process.url):
        seen = await asyncio.to_thread(attack)
    sys.stdout.write(f"\n{seen}\n")
    assert set(seen) <= {200, 400, 404, 413, 422}
    is_well(process)
