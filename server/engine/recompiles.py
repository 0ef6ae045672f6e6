"""Counts what is compiled on a device's thread after its models were ready.

Every call that serves is compiled before readiness: a compilation later is a fault, and
all sessions wait for it. JAX reports each compilation on the thread that compiles.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Final

import jax

COMPILED: Final = "/jax/core/compile/backend_compile_duration"
"""JAX's event of a program that was compiled."""

_thread: Final = threading.local()


class Recompiles:
    """How often one thread has compiled while it served.

    Attributes:
        count: The number; any thread may read it.
    """

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        """Count from now on what the calling thread compiles."""
        _listen()
        _thread.counter = self


@cache
def _listen() -> None:
    """Have JAX report compilations, once in a process: a listener stays for ever."""
    jax.monitoring.register_event_duration_secs_listener(_count)


def _count(event: str, duration_secs: float, **_: str | int) -> None:
    counter = getattr(_thread, "counter", None)
    if event == COMPILED and counter is not None:
        counter.count += 1
