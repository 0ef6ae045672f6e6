"""CPU time of every thread, and memory, of a process and its children; Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

NS_PER_S: Final = 1e9
PROC: Final = Path("/proc")
ENDED: Final = "ZX"
POLL_S: Final = 0.001


class Thread(NamedTuple):
    """One thread of a process; `name` is the system's, which the process may set."""

    process: int
    thread: int
    name: str


def with_children(pid: int) -> list[int]:
    """Return a process and its children, and theirs."""
    found = [pid]
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += with_children(int(child))
    return found


def running_beside(pid: int, module: str) -> list[int]:
    """Return the children of a process whose command lines name a module."""
    name = module.encode()
    return [child for child in with_children(pid)[1:] if name in _command(child)]


def thread_times_s(pid: int) -> dict[Thread, float]:
    """Return the CPU time of each thread so far, s."""
    times: dict[Thread, float] = {}
    for process in with_children(pid):
        for task in _tasks(process):
            try:
                name = (task / "comm").read_text().strip()
                times[Thread(process, int(task.name), name)] = _cpu_s(task)
            except OSError:  # it has ended meanwhile
                continue
    return times


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its children, MiB."""
    return sum(_resident_kib(process) for process in with_children(pid)) / 1024


def proportional_mib(pid: int) -> float:
    """Return the memory of a process and its children, shared pages once, MiB.

    A page that several processes map counts for each by its share.
    """
    return sum(_proportional_kib(process) for process in with_children(pid)) / 1024


def label(thread: Thread, pid: int) -> str:
    """Name a thread of a server: its main thread runs the event loop."""
    name = thread.name if thread.thread != thread.process else "main"
    return name if thread.process == pid else f"{thread.process}: {name}"


def _command(pid: int) -> bytes:
    """Return a process's command line; none if it has ended.

    Linux says none, too, of a process that is being replaced by the program that it was
    started for, for as long as it waits for a core.
    """
    folder = PROC / str(pid)
    try:
        while not (command := (folder / "cmdline").read_bytes()):
            if _after_name(folder)[0] in ENDED:
                break
            time.sleep(POLL_S)
    except OSError:  # it has ended meanwhile
        return b""
    return command


def _after_name(folder: Path) -> list[str]:
    """Return the fields of a process's or a thread's `stat`, from its state on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _tasks(pid: int) -> Iterator[Path]:
    try:
        yield from sorted((PROC / str(pid) / "task").iterdir())
    except OSError:
        return


def _cpu_s(task: Path) -> float:
    """Return a thread's CPU time: to the ns where the kernel says, else to 10 ms."""
    try:
        return int((task / "schedstat").read_text().split()[0]) / NS_PER_S
    except (OSError, IndexError):
        user, system = _after_name(task)[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _resident_kib(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "status").read_text()
    except OSError:
        return 0
    found = text.partition("VmRSS:")[2].split()
    return int(found[0]) if found else 0  # none left: it has ended, or is about to


def _proportional_kib(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    found = text.partition("\nPss:")[2].split()
    return int(found[0]) if found else 0
