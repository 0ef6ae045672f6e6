"""Shared capacity: the cores of a host, or the spare rate of a replica.

Jobs are served at the same time and share the capacity equally ("processor sharing").
A replica's rate is counted in the same way: a processor is then one event a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator
from itertools import count
from typing import Any, TypeAlias

import simpy

Steps: TypeAlias = Generator[simpy.Event, Any, None]
"""What a SimPy process yields."""


class Processors:
    """Capacity that jobs share; a job of width 1 uses at most one processor.

    A job's progress is counted in virtual time, which every running job advances in at
    the same speed, so that a change of speed touches no single job.

    Args:
        env: The simulation.
        capacity: How many processors there are.

    Attributes:
        busy_s: Processor seconds used so far, up to the last change.
    """

    def __init__(self, env: simpy.Environment, capacity: float) -> None:
        self._env = env
        self._capacity = capacity
        self._jobs: list[tuple[float, int, float, simpy.Event]] = []
        self._order = count()
        self._width = self._virtual_s = self._changed_s = self.busy_s = 0.0
        self._timer = 0

    @property
    def capacity(self) -> float:
        """How many processors there are."""
        return self._capacity

    def work(self, cpu_s: float, width: float = 1.0) -> simpy.Event:
        """Return an event that happens once so much CPU time was spent on a job.

        Args:
            cpu_s: CPU time, s, of all processors together.
            width: How many processors the job can use at one time.
        """
        done = self._env.event()
        if cpu_s <= 0.0:
            return done.succeed()
        self._advance()
        finish_s = self._virtual_s + cpu_s / width
        heapq.heappush(self._jobs, (finish_s, next(self._order), width, done))
        self._width += width
        self._wait()
        return done

    def resize(self, capacity: float) -> None:
        """Change how many processors there are, from now on."""
        self._advance()
        self._capacity = capacity
        self._wait()

    @property
    def _speed(self) -> float:
        return min(1.0, self._capacity / self._width) if self._width else 0.0

    def _advance(self) -> None:
        elapsed_s = self._env.now - self._changed_s
        self._virtual_s += elapsed_s * self._speed
        self.busy_s += elapsed_s * self._speed * self._width
        self._changed_s = self._env.now

    def _wait(self) -> None:
        """Arrange the end of the next job, instead of what was arranged before."""
        self._timer += 1
        if self._jobs:
            left_s = max(0.0, self._jobs[0][0] - self._virtual_s)
            timeout = self._env.timeout(left_s / self._speed, self._timer)
            timeout.callbacks.append(self._end)

    def _end(self, timeout: simpy.Event) -> None:
        if timeout.value != self._timer:
            return
        self._advance()
        self._virtual_s = self._jobs[0][0]  # no rounding error stops a job
        while self._jobs and self._jobs[0][0] <= self._virtual_s:
            _, _, width, done = heapq.heappop(self._jobs)
            self._width -= width
            done.succeed()
        self._wait()
