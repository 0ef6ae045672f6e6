"""Waiting on the event loop for a condition that something else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """Whoever changes something beats; whoever waits looks again."""

    def __init__(self) -> None:
        self._beaten = asyncio.Event()

    def beat(self) -> None:
        """Make everybody who waits look at their condition again."""
        self._beaten.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds, at once if it does."""
        while not condition():
            self._beaten.clear()
            await self._beaten.wait()
