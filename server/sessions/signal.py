"""A notification between coroutines of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes the coroutines that wait, which then check their condition again.

    Unlike `asyncio.Condition`, it is notified without a lock, from synchronous code,
    at the cost of one look where nothing waits.
    """

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """Make every waiting coroutine check its condition again."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds, at once if it does."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
