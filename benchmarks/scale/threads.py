"""Threads of a simulated process: each turn takes all items that wait by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import simpy

from benchmarks.scale.processors import Processors, Steps

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Items that wait for a thread, and the event that wakes the thread."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._items: list[Item] = []
        self._woken: simpy.Event | None = None

    def post(self, item: Item) -> None:
        """Add an item now."""
        self._items.append(item)
        if self._woken is not None:
            woken, self._woken = self._woken, None
            woken.succeed()

    def post_later(self, item: Item, wait_s: float) -> None:
        """Add an item after some time."""
        if wait_s <= 0.0:
            self.post(item)
            return
        timeout = self._env.timeout(wait_s, item)
        timeout.callbacks.append(lambda event: self.post(event.value))

    def __bool__(self) -> bool:
        return bool(self._items)

    def filled(self) -> simpy.Event:
        """Return an event that happens as soon as there is an item."""
        event = self._env.event()
        if self._items:
            return event.succeed()
        self._woken = event
        return event

    def take(self) -> list[Item]:
        """Remove all items, in order."""
        items, self._items = self._items, []
        return items


class Thread(Generic[Item]):
    """A thread that pays for each turn, and then handles the turn's items.

    Args:
        env: The simulation.
        processors: The host's cores.
        cost: Returns the CPU time of a turn, s, from its items and how long the
            thread slept before, s.
        handle: Handles the items at the end of a turn.
        lock: Python's lock, which the threads of one process share; None: its own.
    """

    def __init__(
        self,
        env: simpy.Environment,
        processors: Processors,
        cost: Callable[[list[Item], float], float],
        handle: Callable[[list[Item]], None],
        lock: simpy.Resource | None = None,
    ) -> None:
        self.mailbox = Mailbox[Item](env)
        self.busy_s = 0.0
        self._processors, self._cost, self._handle = processors, cost, handle
        self._lock = lock or simpy.Resource(env)
        self._env = env
        env.process(self._run())

    def _run(self) -> Steps:
        while True:
            ended_s = self._env.now
            yield self.mailbox.filled()
            slept_s = self._env.now - ended_s
            with self._lock.request() as held:
                yield held
                items = self.mailbox.take()
                cpu_s = self._cost(items, slept_s)
                self.busy_s += cpu_s
                yield self._processors.work(cpu_s)
            self._handle(items)
