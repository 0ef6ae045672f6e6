"""How a process of the server runs its event loop."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

SWITCH_S: Final = 0.0002
"""For how long a thread may keep Python's lock while another one waits for it.

Python's own 5 ms are as long as a batch takes. A device thread that must wait so long
each time that it comes back from the device leaves it idle under load, and waits some
times for each batch: with 0.5 ms, a sensor's scores come a third later. With 0.1 ms the
two threads hand the lock over more often than they are given a core.
"""


def run_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine as this process's main work, as `asyncio.run` does.

    Args:
        main: Ends the process's work when it returns.
    """
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=fastest_loop()) as runner:
        return runner.run(main)


def freeze_start() -> None:
    """Leave out all objects of the start when garbage is collected from now on.

    A server's modules and models are a quarter of a million objects. A collection that
    looks at all of them holds Python's lock for 0.2 s and more, in which no frame is
    read and no score is sent; one that looks at the sessions' alone takes microseconds.
    """
    gc.collect()
    gc.freeze()


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop; None for asyncio's where it is missing."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop
