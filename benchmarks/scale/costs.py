"""What the stages of a replica cost, in seconds, and where the numbers come from.

The times of the compiled calls are those of `benchmarks.engine --json`; the costs of
client, event loop and device thread are measured by `benchmarks.scale --validate`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from saccade.server.engine.scheduler import Bucket

CASE: Final = re.compile(
    r"(?P<rows>[\d,]+) sessions?, "
    r"(?:(?P<events>[\d,]+)-event chunks|(?P<ticks>\d+) ticks each|single ticks)"
)
"""A case's name in the JSON of `benchmarks.engine`."""


class CallTimes:
    """How long a compiled call takes; a shape not measured lies between two that were.

    Args:
        seconds: By shape; at least one.

    Raises:
        ValueError: No shape was measured.
    """

    def __init__(self, seconds: Mapping[Bucket, float]) -> None:
        if not seconds:
            raise ValueError("no call was measured: give at least one shape's time")
        self.seconds: Final = dict(seconds)
        by_work: dict[int, list[float]] = {}
        for bucket, taken_s in self.seconds.items():
            by_work.setdefault(bucket.rows * bucket.ticks, []).append(taken_s)
        self._work = np.array(sorted(by_work), float)
        self._taken_s = np.array([np.mean(by_work[int(work)]) for work in self._work])

    def __call__(self, bucket: Bucket) -> float:
        """Return the seconds that a call of this shape takes."""
        known = self.seconds.get(bucket)
        if known is not None:
            return known
        work = float(bucket.rows * bucket.ticks)
        if work > self._work[-1]:  # as fast a tick as the largest call measured
            return float(self._taken_s[-1] * work / self._work[-1])
        return float(np.interp(work, self._work, self._taken_s))

    def partly(self, bucket: Bucket, ticks: int) -> float:
        """Return the seconds of a call that skips what only fills its shape.

        They grow with the real work, from those of the smallest shape.

        Args:
            bucket: The shape.
            ticks: Rows' ticks of real work, at least 1.
        """
        whole_s, least_s = self(bucket), self(Bucket(1, 1))
        most = bucket.rows * bucket.ticks
        if ticks >= most or whole_s <= least_s:
            return whole_s
        return least_s + (whole_s - least_s) * (ticks - 1) / (most - 1)

    @classmethod
    def read(cls, path: Path, model: str, tick_events: int) -> Self:
        """Read the JSON of `benchmarks.engine`.

        Raises:
            ValueError: The file is no such JSON, or has no case of this model.
        """
        try:
            cases = json.loads(path.read_text())["cases"]
            rows = [row for row in cases if row["model"] == model]
            found = {
                bucket: 1e-3 * float(row["p50_ms"])
                for row in rows
                if (bucket := _shape_of(row["case"], tick_events)) is not None
            }
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{path} is not the JSON of benchmarks.engine: {error!r}"
            raise ValueError(reason) from None
        if not found:
            raise ValueError(f"{path} has no case of the model {model!r}")
        return cls(found)


def _shape_of(case: str, tick_events: int) -> Bucket | None:
    found = CASE.fullmatch(case)
    if found is None:
        return None
    rows = _number(found["rows"])
    if found["events"]:
        return Bucket(rows, _number(found["events"]) // tick_events)
    return Bucket(rows, int(found["ticks"] or 1))


def _number(text: str) -> int:
    return int(text.replace(",", ""))


COLD_AFTER_S: Final = 0.005
"""A thread that slept so long pays half of `StageCosts.cold_s`."""


@dataclass(frozen=True)
class StageCosts:
    """CPU time of one thread, s.

    Attributes:
        turn_s: Of a turn: system calls, and what is done once for all items.
        frame_s: Of each frame (for the device thread: of each row).
        result_s: Of each result that is reported.
        cold_s: Of a turn after a long sleep: what it takes more than one that follows
            at once, with other code and data in the caches and the core halted.
    """

    turn_s: float
    frame_s: float
    result_s: float = 0.0
    cold_s: float = 0.0

    def of_turn(self, slept_s: float, frames: int, results: float = 0.0) -> float:
        """Return what a turn costs after so long a sleep, s."""
        cold_s = self.cold_s * coldness(slept_s)
        return self.turn_s + cold_s + frames * self.frame_s + results * self.result_s


FREE: Final = StageCosts(0.0, 0.0)
"""A thread on hosts that are not looked at."""


def coldness(slept_s: float) -> float:
    """Return which part of `cold_s` a turn pays after so long a sleep."""
    return slept_s / (slept_s + COLD_AFTER_S)


@dataclass(frozen=True)
class ReplicaCosts:
    """What one replica and its clients cost.

    Attributes:
        client: The thread of one client process.
        loop: The server's event loop.
        device: The device thread, without the compiled calls.
        calls: The compiled calls.
        call_width: Cores that a compiled call uses; 0: a device of its own.
        timer_s: How late a client's timer is.
        hand_over_s: From one thread to the next, without CPU time.
        swap_s: Device thread's CPU time to swap a session out and another in.
    """

    client: StageCosts
    loop: StageCosts
    device: StageCosts
    calls: CallTimes
    call_width: float = 1.0
    timer_s: float = 0.0
    hand_over_s: float = 0.0
    swap_s: float = 0.0

    def with_calls(self, calls: CallTimes, call_width: float) -> ReplicaCosts:
        """Return the same threads around another device."""
        return replace(self, calls=calls, call_width=call_width)

    def without_clients(self) -> ReplicaCosts:
        """Return the costs where each sensor has a host of its own."""
        return replace(self, client=FREE, timer_s=0.0)

    def to_json(self) -> dict[str, Any]:
        """Return all as JSON values, times in µs."""
        calls = {str(b): 1e6 * s for b, s in sorted(self.calls.seconds.items())}
        stages = {
            f"{name}_us": {
                "turn": 1e6 * stage.turn_s,
                "frame": 1e6 * stage.frame_s,
                "result": 1e6 * stage.result_s,
                "cold": 1e6 * stage.cold_s,
            }
            for name, stage in (
                ("client", self.client),
                ("loop", self.loop),
                ("device", self.device),
            )
        }
        return {
            "calls_us": calls,
            "call_width": self.call_width,
            "timer_us": 1e6 * self.timer_s,
            "hand_over_us": 1e6 * self.hand_over_s,
            "swap_us": 1e6 * self.swap_s,
            **stages,
        }
