"""The devices of a run: set up before JAX is first used, and their mesh.

A CPU counts as one device a core: each takes rows of its own from beginning to end,
which keeps cores busier than sharing every single operation would.
"""

from __future__ import annotations

import ctypes
import os
import socket
from typing import Final

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from saccade.model.training.errors import InvalidSetting
from saccade.model.training.gradient import DEVICES
from saccade.model.training.settings import SystemSettings

# mallopt's parameters, from malloc.h
_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
_ARENA_MAX: Final = -8
_LARGEST: Final = 2**31 - 1


def set_up_devices(system: SystemSettings) -> None:
    """Join the other processes and set the number of devices, before JAX is first used.

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
        if system.process == 0:
            check_coordinator(system.coordinator)
        jax.distributed.initialize(system.coordinator, system.processes, system.process)


def check_coordinator(place: str) -> None:
    """Raise unless the first process can listen where all processes are to meet.

    JAX would crash there without a word, and the others would wait for minutes.

    Raises:
        InvalidSetting: It is no `HOST:PORT`, or another program listens there.
    """
    host, _, port = place.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        raise InvalidSetting("system.coordinator", f"{place!r} is no HOST:PORT")
    try:
        with socket.create_server(("", int(port))):
            return
    except OSError as error:
        reason = f"port {port} of the first process: {error}"
        raise InvalidSetting("system.coordinator", reason) from error


def make_mesh(system: SystemSettings) -> Mesh:
    """Return the mesh of all processes' devices that share the rows of a batch.

    Raises:
        InvalidSetting: There are fewer devices than `system.devices`.
    """
    found = np.array(jax.devices())
    if system.coordinator is not None:
        return Mesh(found, (DEVICES,))
    asked = found.size if system.devices is None else system.devices
    if not 0 < asked <= found.size:
        raise InvalidSetting("system.devices", f"{asked}, where {found.size} are there")
    return Mesh(found[:asked], (DEVICES,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]


def is_first() -> bool:
    """Return whether this is the first process, which alone writes files."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:  # noqa: FBT001 a value, no option
    """Return whether a flag is set in any process; every process must ask."""
    if jax.process_count() == 1:
        return flag
    flags = multihost_utils.process_allgather(np.array(flag))
    return bool(np.any(flags))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _keep_freed_memory() -> None:
    """Set glibc, where it is the C library, to keep freed memory for the next step.

    By default glibc returns large blocks to the kernel after every step, and the kernel
    clears their pages for the next one: a third of a step's time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_ARENA_MAX, 1)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _LARGEST)
