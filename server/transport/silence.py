"""A timer for a client that says nothing, at the cost of one assignment a message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class SilenceTimer:
    """Calls back once nothing was heard for some time.

    Args:
        on_silence: Receives the time, s; returns whether the silence ends there.
            Otherwise it is called again after as long.
    """

    def __init__(self, on_silence: Callable[[float], bool]) -> None:
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def silent_s(self) -> float:
        """The time since something was heard, s."""
        return self._loop.time() - self._heard_s

    def restart(self, silence_s: float) -> None:
        """Wait for so long a silence from now on; 0 is none ever."""
        self.stop()
        self.heard()
        if silence_s > 0:
            self._wait(silence_s, silence_s)

    def heard(self) -> None:
        """Note that something was heard."""
        self._heard_s = self._loop.time()

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, wait_s: float, silence_s: float) -> None:
        self._timer = self._loop.call_later(wait_s, self._check, silence_s)

    def _check(self, silence_s: float) -> None:
        left_s = self._heard_s + silence_s - self._loop.time()
        if left_s > 0:
            self._wait(left_s, silence_s)
        elif not self._on_silence(silence_s):
            self._wait(silence_s, silence_s)
