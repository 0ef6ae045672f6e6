"""Checks of the store of sessions, and of the disk that uploads wait on."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from saccade.server.doctor.findings import Finding, Subject
from saccade.server.doctor.network import judge_skew, measure_skew
from saccade.server.sessions.stores.sqlite import SCHEMA

if TYPE_CHECKING:
    from redis import Redis

    from saccade.server.redis_address import RedisAddress

BUSY_S: Final = 1.0
LEAST_BYTES: Final = 100 << 20
"""Free space below which a store is soon full."""
FEW_BYTES: Final = 1 << 30
OLDEST_REDIS: Final = (6, 2)
FULL: Final = 0.9
"""The part of Redis' memory from which on it counts as full."""

WRITE: Final = "redis.call('SET', KEYS[1], '1', 'PX', '1000') return 1"
"""Needs what the store's scripts need: to run, and to write."""


def check_store(subject: Subject) -> Iterator[Finding]:
    """Check that the store of sessions can be used, and what it loses."""
    settings = subject.settings
    if settings.snapshot_s == 0:
        text = "sessions are not saved (snapshot_s is 0): they end with a connection"
        yield Finding("store", "ok", text)
    elif settings.store == "sqlite":
        yield from _check_sqlite(settings.store_path)
    elif settings.store == "redis":
        yield from check_redis(settings.store_url)
    else:
        text = "sessions are kept in memory: they end with the server"
        remedy = "--store sqlite keeps them through a restart"
        yield Finding("store", "warning", text, remedy)


def _check_sqlite(path: Path) -> Iterator[Finding]:
    remedy = "give this user the folder, or name another file with --store-path"
    reason = why_not_writable(path.parent)
    if reason is None and path.exists():
        reason = _why_no_store(path)
    if reason is not None:
        yield Finding("store", "fault", f"cannot write {path}: {reason}", remedy)
        return
    yield Finding("store", "ok", f"sqlite can write {path}")
    yield from _check_space("store", path.parent, LEAST_BYTES, FEW_BYTES)


def _why_no_store(path: Path) -> str | None:
    """Return why a file is no store that can be written; None where it is one."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, SCHEMA.split(";")):
                db.execute(statement)
            db.execute("ROLLBACK")
    except sqlite3.Error as error:
        if "locked" in str(error):  # by a server that writes to it just now
            return None
        return str(error)
    return None


def why_not_writable(folder: Path) -> str | None:
    """Return why a folder cannot be made or written to; None where it can be.

    Nothing is left behind: a folder that is missing is not made.
    """
    there = next(each for each in [folder, *folder.parents] if _exists(each))
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return f"{there}: {error.strerror}"


def _exists(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False


def _check_space(
    check: str, folder: Path, least_bytes: int, few_bytes: int
) -> Iterator[Finding]:
    there = next(each for each in [folder, *folder.parents] if _exists(each))
    free = shutil.disk_usage(there).free
    if free >= few_bytes:
        return
    text = f"{free >> 20} MiB are free on the disk of {there}"
    level = "fault" if free < least_bytes else "warning"
    yield Finding(check, level, text, "free some space, or name another place")  # type: ignore[arg-type]


def check_uploads(subject: Subject) -> Iterator[Finding]:
    """Check the folder in which recordings that clients send wait on disk."""
    remedy = "make a folder that this user can write to, and name it with TMPDIR"
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        yield Finding("uploads", "fault", f"{error}", remedy)
        return
    if reason := why_not_writable(folder):
        text = f"cannot write what clients send: {reason}"
        yield Finding("uploads", "fault", text, remedy)
        return
    most = subject.settings.max_uploads_bytes
    free = shutil.disk_usage(folder).free
    if free < most:
        text = f"{free >> 20} MiB are free in {folder}, and uploads may take "
        text += f"{most >> 20} MiB"
        remedy = "free some space, set TMPDIR, or give a smaller --max-uploads-bytes"
        yield Finding("uploads", "warning", text, remedy)
    else:
        yield Finding("uploads", "ok", f"they wait in {folder}, which has room")


def check_redis(url: str, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Check a Redis, or each primary node of a cluster: whether it answers and keeps.

    Args:
        url: Its address.
        clock: This machine's clock, s since 1970.
    """
    try:
        from saccade.server.redis_address import FAILURES, RedisAddress
    except ModuleNotFoundError:
        text = "the package 'redis' is not installed, and --store redis needs it"
        yield Finding("store", "fault", text, "pip install 'saccade[redis]'")
        return
    try:
        address = RedisAddress.read(url)
        for name, node in _nodes(address):
            with node:
                yield from _check_node(name, node, clock)
    except (*FAILURES, ValueError) as error:
        text = f"Redis at {_place(url)} does not answer as it must: {error}"
        remedy = "start it, or check SACCADE_STORE_URL, the password and the network"
        yield Finding("store", "fault", text, remedy)


def _place(url: str) -> str:
    """Return an address without its password."""
    scheme, _, place = url.partition("://")
    return f"{scheme}://{place.rpartition('@')[2]}"


def _nodes(address: RedisAddress) -> Iterator[tuple[str, Redis]]:
    """Yield connections to all nodes that hold sessions, with their names."""
    from redis import Redis

    with address.connect() as client:
        if isinstance(client, Redis):
            place = _place(address.url).partition("://")[2].partition("/")[0]
            yield f"Redis at {place}", client
            return
        for node in client.get_primaries():
            name = f"Redis at {node.host}:{node.port}"
            yield name, client.get_redis_connection(node)


def _check_node(
    name: str, node: Redis, clock: Callable[[], float]
) -> Iterator[Finding]:
    info: dict[str, Any] = node.info("all")
    version = str(info.get("redis_version", "0"))
    yield from _check_node_writes(name, node, info)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_REDIS:
        text = f"{name} is version {version}; 6.2 is the oldest that is tried"
        yield Finding("store", "warning", text, "update it")
    else:
        yield Finding("store", "ok", f"{name} answers, version {version}")
    yield from _check_persistence(name, info)
    yield from _check_memory(name, info)

    def ask() -> float:
        seconds, microseconds = node.time()
        return float(seconds + microseconds / 1e6)

    yield judge_skew(measure_skew(ask, clock), name)


def _check_node_writes(
    name: str, node: Redis, info: dict[str, Any]
) -> Iterator[Finding]:
    """Check that a node takes what the store writes."""
    from redis.exceptions import RedisError

    if info.get("role") == "slave":
        remedy = "name its primary in SACCADE_STORE_URL"
        yield Finding(
            "store", "fault", f"{name} is a replica, only for reading", remedy
        )
        return
    if info.get("cluster_enabled"):
        return  # a key of its own slots would have to be found
    key = f"saccade:session:doctor-{secrets.token_hex(8)}"
    try:
        node.eval(WRITE, 1, key)
    except RedisError as error:
        remedy = "the user needs EVAL and writing to the keys saccade:*"
        yield Finding("store", "fault", f"{name} refuses to write: {error}", remedy)


def _check_persistence(name: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Say what a kill of a node would lose."""
    broken = {"aof_last_write_status", "aof_last_bgrewrite_status",
              "rdb_last_bgsave_status"}  # fmt: skip
    for status in sorted(broken & {key for key in info if info[key] == "err"}):
        text = f"{name} cannot save its data: {status} is err"
        yield Finding("store", "fault", text, "see its log; its disk may be full")
    if not info.get("aof_enabled"):
        text = f"{name} has no append-only file: its restart loses sessions"
        remedy = "appendonly yes, and appendfsync always to lose none"
        yield Finding("store", "warning", text, remedy)


def _check_memory(name: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Check that a node neither drops sessions nor runs out of memory."""
    most = int(info.get("maxmemory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if most and policy != "noeviction":
        text = f"{name} may drop sessions: its maxmemory-policy is {policy}"
        yield Finding("store", "warning", text, "maxmemory-policy noeviction")
    used = int(info.get("used_memory", 0))
    if most and used > FULL * most:
        text = f"{name} uses {used >> 20} MiB of the {most >> 20} MiB that it may"
        yield Finding("store", "warning", text, "raise maxmemory, or add nodes")
