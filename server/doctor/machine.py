"""Checks of versions, limits, memory, and the folder of what is compiled."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, NamedTuple

from saccade.server.cpu_time import THREADS, cpu_time
from saccade.server.device_memory import pool_bytes, served_configs, weights_bytes
from saccade.server.doctor.findings import Finding, Subject
from saccade.server.doctor.stores import why_not_writable
from saccade.server.engine.native_code import compiled_mark
from saccade.server.file_limits import files_of, most_files

EXTRAS: Final = frozenset({"model", "server"})
"""The extras that `saccade serve` needs."""

UNCONDITIONAL: Final = re.compile(r"""\s*extra == ["'](\w+)["']\s*""")

PROCESS_BYTES: Final = 600 << 20
"""What a process takes that has loaded JAX and small models, with some room."""
WORKER_BYTES: Final = 250 << 20
"""What each of the other processes takes: workers, and the one that starts them."""
SWAPPED_OUT: Final = 2
"""A session beyond the slots has its row in memory, and once more while it moves."""


class Requirement(NamedTuple):
    """A distribution that a server needs, and which of its versions.

    Attributes:
        name: Its name.
        bounds: Pairs of an operator, `>=`, `!=` or `<`, and a version.
        needed: Whether nothing goes without it.
    """

    name: str
    bounds: tuple[tuple[str, str], ...]
    needed: bool


def check_versions(subject: Subject) -> Iterator[Finding]:
    """Check that the packages are there, in versions that compute right numbers."""
    wanted = {"redis": subject.settings.store == "redis", "ray": subject.settings.ray}
    extras = EXTRAS | {extra for extra in wanted if wanted[extra]}
    found = []
    for requirement in _requirements(extras):
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield from _missing(requirement)
            continue
        finding = judge_version(requirement, installed)
        if finding is not None:
            yield finding
        elif requirement.name in {"jax", "numba", "numpy"}:
            found.append(f"{requirement.name} {installed}")
    python = f"Python {sys.version.split()[0]}"
    yield Finding("versions", "ok", ", ".join([python, *found]))


def _missing(requirement: Requirement) -> Iterator[Finding]:
    if not requirement.needed:
        return  # such as numba, of which the compilers' check speaks
    extra = requirement.name if requirement.name in {"redis", "ray"} else "server"
    text = f"the package {requirement.name!r} is not installed"
    yield Finding("versions", "fault", text, f"pip install 'saccade[{extra}]'")


def judge_version(requirement: Requirement, installed: str) -> Finding | None:
    """Return what is wrong with an installed version; None where nothing is."""
    name, remedy = requirement.name, "pip install -U 'saccade[server]'"
    for operator, bound in requirement.bounds:
        have, other = _numbers(installed), _numbers(bound)
        if operator == "!=" and have == other:
            text = f"{name} {installed} computes wrong numbers on a CPU"
            return Finding("versions", "fault", text, remedy)
        if operator == ">=" and have < other:
            text = f"{name} {installed} is too old: {bound} is the first that is tried"
            return Finding("versions", "fault", text, remedy)
        if operator == "<" and have >= other:
            text = f"{name} {installed} is too new: it was not tried from {bound} on"
            remedy = f"pip install '{name}<{bound}'"
            return Finding("versions", "fault", text, remedy)
    return None


def _requirements(extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield what Saccade's metadata say that some of its extras need."""
    try:
        lines = requires("saccade") or []
    except PackageNotFoundError:  # run from its sources, not installed
        return
    for line in lines:
        requirement, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", requirement)
        plain = UNCONDITIONAL.fullmatch(marker)
        named = re.findall(r"""extra == ["'](\w+)["']""", marker)
        if name is None or name[0] == "saccade" or not (
            extras & {*named} if named else not marker
        ):  # fmt: skip
            continue
        bounds = tuple(re.findall(r"(>=|!=|<)\s*([\w.]+)", requirement))
        needed = plain is not None or not marker
        yield Requirement(name[0], bounds, needed)
        if name[0] == "jax":  # its compiler has the same versions, and the same faults
            yield Requirement("jaxlib", bounds, needed)


def _numbers(text: str) -> tuple[int, ...]:
    """Return a version's release, as numbers, without zeros at its end."""
    release = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def check_files(subject: Subject) -> Iterator[Finding]:
    """Check that a process may have as many files open as it has sessions."""
    settings, most = subject.settings, most_files()
    wanted = files_of(settings, settings.sessions)
    if most is None or most >= wanted:
        yield Finding("files", "ok", f"a process may have {most or 'any number'} open")
        return
    enough = most >= files_of(settings, min(settings.slots, settings.sessions))
    text = f"a process may have {most} files open, and all sessions need {wanted}"
    remedy = f"ulimit -n {wanted}, LimitNOFILE={wanted} in systemd, or "
    remedy += f"--ulimit nofile={wanted} for a container; or a smaller --sessions"
    yield Finding("files", "warning" if enough else "fault", text, remedy)


def check_memory(subject: Subject) -> Iterator[Finding]:
    """Compare the memory that there is with what a server takes."""
    settings, free = subject.settings, free_bytes()
    if free is None:
        yield Finding("memory", "ok", "this system does not say how much is free")
        return
    others = settings.workers + 1 if settings.workers else 0
    needed = PROCESS_BYTES + others * WORKER_BYTES
    for config in served_configs(settings.folders):
        needed += 2 * weights_bytes(config) + pool_bytes(config, settings.slots)
        needed += SWAPPED_OUT * pool_bytes(config, settings.sessions)
    text = f"{free >> 20} MiB are free; the server takes about {needed >> 20} MiB"
    if free >= needed:
        yield Finding("memory", "ok", text)
        return
    remedy = "free some memory, raise the container's limit, or lower --sessions"
    yield Finding("memory", "warning", text, remedy)


def check_cpu_time(_: Subject) -> Iterator[Finding]:
    """Say how many cores' time there is, and whether a container limits it."""
    time = cpu_time()
    text = f"{time}, on {os.environ.get(THREADS, time.threads)} threads"
    if time.quota is None or time.quota >= 1:
        yield Finding("cpu", "ok", text)
        return
    text += ": all threads stand still for a part of each tenth of a second"
    yield Finding("cpu", "warning", text, "raise the container's limit to 1 at least")


def free_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that is free for one more process, within its group's limit.

    None where the system does not say.

    Args:
        root: The file system's.
    """
    try:
        lines = (root / "proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", lines, re.M)
    limits = [int(found[1]) << 10] if found else []
    limits += _left_in_group(root)
    return min(limits, default=None)


def _left_in_group(root: Path) -> Iterator[int]:
    """Yield what each control group of this process has left of its limit, if any."""
    try:
        named = (root / "proc/self/cgroup").read_text().splitlines()[-1]
    except (OSError, IndexError):
        named = "0::/"
    place = root / "sys/fs/cgroup" / named.rpartition(":")[2].lstrip("/")
    older = "memory/memory"
    pairs = {
        "memory.max": "memory.current",
        f"{older}.limit_in_bytes": f"{older}.usage_in_bytes",
    }
    for folder in [place, *place.parents]:
        for limit, used in pairs.items():
            try:
                most = (folder / limit).read_text().strip()
                if most.isdigit():
                    yield int(most) - int((folder / used).read_text())
            except (OSError, ValueError):
                continue


def check_compiled(subject: Subject) -> Iterator[Finding]:
    """Check the folder that keeps what is compiled, and say what it has."""
    folder = subject.settings.compiled
    if reason := why_not_writable(folder):
        text = f"cannot keep what is compiled: {reason}"
        remedy = (
            "name a folder of this user's with --compiled; each start compiles anew"
        )
        yield Finding("compiled", "warning", text, remedy)
    elif compiled_mark(folder / "native").exists():
        yield Finding(
            "compiled", "ok", f"{folder} has the kernels' code: a quick start"
        )
    else:
        text = f"{folder} has no code of these kernels: the first start compiles it"
        yield Finding("compiled", "ok", text)
    if folder.is_dir() and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"others can write to {folder}, from where code is run"
        yield Finding("compiled", "warning", text, f"chmod go-w {folder}")
