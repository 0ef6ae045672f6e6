"""A load: its worker processes, and the sum of what they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any, Final, NamedTuple, Self

from saccade.clients.benchmark.frames import Frames, random_events
from saccade.clients.benchmark.measured import Measured, added
from saccade.clients.benchmark.session import Load, LoadSession, Plan
from saccade.clients.benchmark.worker import RANDOM
from saccade.clients.errors import LoadFailed, StreamError
from saccade.model.events.sensor import Sensor

MODULE: Final = "saccade.clients.benchmark.worker"
LEAD_S: Final = 0.2
"""From the command to run until the run starts, so that all workers are ready."""
GRACE_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10.0
CLOSE_S: Final = 60.0


class Probed(NamedTuple):
    """What a session of two connections shows of a model.

    Attributes:
        opened: The server's `opened`.
        held_back: Events after a tick's last before the tick is scored, 0 or 1.
    """

    opened: dict[str, Any]
    held_back: int


async def probe(url: str, opening: dict[str, Any]) -> Probed:
    """Open a session, then score one tick in another.

    A server finishes all that it can score before it answers `close`, so there is
    nothing else to wait for, also where a model holds the tick back.

    Raises:
        ClientError: No server answers, or it refuses the session.
    """
    first = await LoadSession.connect(url, Load(opening, 1), _one_pixel(1))
    await first.close()
    tick_events = int(first.opened["tick_events"])
    load = Load(opening, tick_events)
    second = await LoadSession.connect(url, load, _one_pixel(tick_events))
    second.send()
    closed = await second.close()
    if closed is None:
        raise LoadFailed("the server scored no tick of a session that was to show one")
    return Probed(first.opened, 0 if closed["events"] == tick_events else 1)


def _one_pixel(count: int) -> Frames:
    return Frames(random_events(Sensor(1, 1, 1), count), count, 1e6)


class Crew:
    """Worker processes that run a load's sessions; a context opens and ends them.

    Args:
        url: The server.
        load: What each session sends.
        sessions: How many sessions.
        processes: How many workers share them.
        source: Where the events come from: see `worker.events_of`.
    """

    def __init__(
        self,
        url: str,
        load: Load,
        sessions: int,
        processes: int = 1,
        source: str = RANDOM,
    ) -> None:
        self._url, self._load, self._source = url, load, source
        self._sessions = sessions
        self._count = min(processes, sessions)
        self._workers: list[subprocess.Popen[str]] = []
        self.opened: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self._count

    def run(
        self, seconds: float, grace_s: float = GRACE_S, start_s: float | None = None
    ) -> Measured:
        """Run the load for so long, and return the sum of what was measured."""
        return self.finish(self.begin(seconds, grace_s, start_s))

    def begin(
        self, seconds: float, grace_s: float = GRACE_S, start_s: float | None = None
    ) -> Plan:
        """Let the load start, and return at once; `finish` waits for its end."""
        plan = Plan(start_s or time.monotonic() + LEAD_S, seconds, grace_s)
        for worker in self._workers:
            _tell(worker, {"do": "run", "plan": asdict(plan)})
        return plan

    def finish(self, plan: Plan) -> Measured:
        """Wait for the end of what `begin` started."""
        parts = [_heard(worker)["measured"] for worker in self._workers]
        return added(Measured.from_json(part) for part in parts)

    def close(self, timeout_s: float = CLOSE_S) -> dict[str, int]:
        """End every session; return the sums of their last messages.

        The keys: `events`, `pending` and `dropped` as in `closed`; `sent` by the
        sessions; sessions that were `unanswered`; and sessions whose sums are `wrong`.
        """
        for worker in self._workers:
            _tell(worker, {"do": "close", "timeout_s": timeout_s})
        parts = [_heard(worker)["closed"] for worker in self._workers]
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def _open(self) -> None:
        for place in range(self._count):
            worker = subprocess.Popen(
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._workers.append(worker)
            _tell(
                worker,
                {
                    "do": "open",
                    "url": self._url,
                    "load": asdict(self._load),
                    "source": self._source,
                    "places": [*range(place, self._sessions, self._count)],
                    "of": self._sessions,
                },
            )
        answers = [_heard(worker) for worker in self._workers]
        self.opened = answers[0]["opened"]

    def _stop(self) -> None:
        for worker in self._workers:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.close()
            try:
                worker.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            worker.stdout.close()
        self._workers.clear()


def _tell(worker: subprocess.Popen[str], command: dict[str, Any]) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(json.dumps(command) + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        raise LoadFailed("a client process has ended") from None


def _heard(worker: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a worker's answer; raise the error that it holds."""
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise LoadFailed(f"a client process ended with status {worker.wait()}")
    answer: dict[str, Any] = json.loads(line)
    if "refused" in answer:
        raise StreamError(**answer["refused"])
    if "failed" in answer:
        raise LoadFailed(answer["failed"])
    return answer


def default_processes(sessions: int) -> int:
    """Return how many client processes a load gets: half of the cores."""
    return max(1, min(sessions, (os.cpu_count() or 1) // 2))
