"""The devices of a run, and how this process gets ready for them.

A CPU counts as one device a core: each takes rows of its own from beginning to end,
which keeps cores busier than sharing every single operation would.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saccade.model.training.errors import InvalidSetting
from saccade.model.training.gradient import DEVICES
from saccade.model.training.settings import SystemSettings

# mallopt's parameters, from malloc.h
_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
_ARENA_MAX: Final = -8
_LARGEST: Final = 2**31 - 1


def get_ready(system: SystemSettings) -> None:
    """Join the other processes and claim the devices; before JAX is first used.

    Where this process has used JAX before, its devices stay as they are.

    Raises:
        InvalidSetting: The processes are not numbered, or it is too late to join them.
    """
    if not 0 <= system.process < system.processes:
        reason = f"{system.process}, of {system.processes} counted from 0"
        raise InvalidSetting("system.process", reason)
    _keep_freed_memory()
    try:
        jax.config.update(  # type: ignore[no-untyped-call]
            "jax_num_cpu_devices",
            _cores() if system.devices is None else max(system.devices, 1),
        )
    except RuntimeError as error:
        if system.coordinator is not None:
            raise InvalidSetting("system.coordinator", str(error)) from error
        return
    if system.coordinator is not None:
        jax.distributed.initialize(system.coordinator, system.processes, system.process)


def mesh(system: SystemSettings) -> Mesh:
    """Return the devices of all processes that share the rows of a batch.

    Raises:
        InvalidSetting: There are not as many as asked for.
    """
    found = np.array(jax.devices())
    if system.coordinator is not None:
        return Mesh(found, (DEVICES,))
    asked = found.size if system.devices is None else system.devices
    if not 0 < asked <= found.size:
        raise InvalidSetting("system.devices", f"{asked}, where {found.size} are there")
    return Mesh(found[:asked], (DEVICES,))


def on_all(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]


def is_first() -> bool:
    """Say whether this process is the one that writes files."""
    return jax.process_index() == 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one, where it is glibc.

    It would hand large blocks back to the kernel after every step, which then clears
    every page of them anew: a third of the time of a step was spent on that.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _LARGEST)
