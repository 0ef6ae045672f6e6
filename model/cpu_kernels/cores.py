"""A core of its own for each thread of a call.

Linux may leave two threads of a call on one core, where they wait for each other for
milliseconds while another core is idle. So in a long call whose blocks wait for each
other (`held_blocks`) a thread keeps to a core: the one that it is on, or another if a
thread of the same call has that. With more threads than cores, and where the system
refuses, threads run where it puts them.
"""

from __future__ import annotations

from typing import Final

from saccade.model.cpu_kernels.memory import (
    PROCESSOR,
    fetch_or,
    load_i64,
    stack_buffer,
    store_i64,
    system_call,
    zero,
)
from saccade.model.cpu_kernels.vectors import compiled

_NUMBERS: Final = {"Linux x86_64": (203, 204, 309), "Linux aarch64": (122, 123, 168)}
"""Of the system calls sched_setaffinity, sched_getaffinity and getcpu."""

_SUPPORTED: Final = PROCESSOR in _NUMBERS
_SET, _GET, _CURRENT = _NUMBERS.get(PROCESSOR, (0, 0, 0))
SET_INTS: Final = 8
"""int64 in a set of cores, a bit each; a system with more cores refuses such a set."""
_BYTES: Final = 8 * SET_INTS
_CORES: Final = 64 * SET_INTS


@compiled
def take_core(taken: int, allowed: int) -> int:
    """Keep this thread to an allowed core that is not taken; return it, or -1.

    Args:
        taken: Address of the set of cores that threads of the call have taken.
        allowed: Address of a set; it becomes that of the cores that this thread may
            use, for `leave_core`.
    """
    if not _SUPPORTED:
        return -1
    zero(allowed, _BYTES)
    if system_call(_GET, 0, _BYTES, allowed) <= 0:
        return -1
    core = _current()
    for other in range(_CORES + 1):
        if core < _CORES and _has(allowed, core) and _add(taken, core):
            return core if _keep_to(core) >= 0 else -1
        core = other
    return -1


@compiled
def leave_core(core: int, allowed: int) -> None:
    """Let this thread run on all allowed cores again, if it still keeps to its own."""
    now = stack_buffer()
    zero(now, _BYTES)
    if core < 0 or system_call(_GET, 0, _BYTES, now) <= 0:
        return
    for place in range(SET_INTS):
        own = 1 << (core % 64) if place == core // 64 else 0
        if load_i64(now, place) != own:
            return  # an administrator has moved it meanwhile
    system_call(_SET, 0, _BYTES, allowed)


@compiled
def _current() -> int:
    """Return the core that this thread is on."""
    core = stack_buffer()
    store_i64(core, 0, 0)
    system_call(_CURRENT, core, 0, 0)
    return load_i64(core, 0)


@compiled
def _has(cores: int, core: int) -> bool:
    return (load_i64(cores, core // 64) >> (core % 64)) & 1 != 0


@compiled
def _add(cores: int, core: int) -> bool:
    """Add a core to a set that threads share; return whether it was not there."""
    bit = 1 << (core % 64)
    return fetch_or(cores, core // 64, bit) & bit == 0


@compiled
def _keep_to(core: int) -> int:
    """Keep this thread to a core; return less than 0 if the system refuses."""
    only = stack_buffer()
    zero(only, _BYTES)
    store_i64(only, core // 64, 1 << (core % 64))
    return system_call(_SET, 0, _BYTES, only)
