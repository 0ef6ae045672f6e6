"""A notification between coroutines of one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes the coroutines that wait, which then check their condition again.

    Unlike `asyncio.Condition`, it is notified without a lock, from synchronous code.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Make every waiting coroutine check its condition again."""
        self._changed.set()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds, at once if it does."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()
