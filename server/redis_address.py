"""The address of a Redis, a Valkey or a cluster of them, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, NamedTuple, TypeVar

from redis import Redis, RedisCluster
from redis.asyncio import (
    BlockingConnectionPool,
    Redis as AsyncRedis,
    RedisCluster as AsyncRedisCluster,
)
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException, RedisError

T = TypeVar("T")

ANSWER_S: Final = 2.0
"""How long to wait for an answer before Redis counts as unavailable: less than half
a lease, so that a store that hangs is known before one is over."""
FAILURES: Final = (RedisError, RedisClusterException, OSError)
RETRIES: Final = 2
"""A connection that has ended, as after a restart of Redis, is made anew at once."""
CONNECTIONS: Final = 8

SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
"""Schemes of an address, and what the client library calls them."""
CLUSTER: Final = "+cluster"


class RedisUnavailable(Exception):
    """Redis does not answer, or answers with an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"Redis: {self.reason}"


class RedisAddress(NamedTuple):
    """An address of one Redis, and further nodes where it is a cluster's."""

    url: str
    cluster: bool
    nodes: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(cls, url: str) -> RedisAddress:
        """Read an address; ValueError, without the password, where it is none."""
        scheme, _, place = url.partition("://")
        base = scheme.removesuffix(CLUSTER)
        if base not in SCHEMES or not place:
            known = ", ".join(SCHEMES)
            raise ValueError(
                f"its address has to begin with one of {known} and ://, or with "
                f"redis{CLUSTER}:// for a cluster"
            )
        if base == scheme:
            return cls(f"{SCHEMES[base]}://{place}", cluster=False)
        first, *others = place.split(",")
        last, slash, path = (others[-1] if others else "").partition("/")
        nodes = tuple(_node(each) for each in [*others[:-1], last] if each)
        return cls(f"{SCHEMES[base]}://{first}{slash}{path}", cluster=True, nodes=nodes)

    def connect(self) -> Redis | RedisCluster:
        """Return a client that waits for its answers; a cluster's connects at once."""
        limits: dict[str, Any] = {
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": ANSWER_S,
        }
        if not self.cluster:
            return Redis.from_url(self.url, **limits)
        nodes = [ClusterNode(*node) for node in self.nodes]  # type: ignore[no-untyped-call]
        return RedisCluster.from_url(self.url, startup_nodes=nodes, **limits)

    def probe(self) -> None:
        """Raise unless a Redis answers."""
        with self.connect() as client:
            if isinstance(client, Redis):
                client.ping()

    def client(self) -> AsyncRedis | AsyncRedisCluster:
        """Return a client, which connects at its first command."""
        limits: dict[str, Any] = {
            "max_connections": CONNECTIONS,
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": ANSWER_S,
            "retry": Retry(ExponentialBackoff(cap=0.5, base=0.02), RETRIES),
        }
        if self.cluster:
            nodes = [AsyncClusterNode(*node) for node in self.nodes]
            return AsyncRedisCluster.from_url(self.url, startup_nodes=nodes, **limits)
        pool = BlockingConnectionPool.from_url(self.url, timeout=ANSWER_S, **limits)
        return AsyncRedis.from_pool(pool)


def _node(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{text!r} is no HOST:PORT of a cluster's node")
    return host, int(port)


async def answered(command: Awaitable[T]) -> T:
    """Wait for an answer, as long as one may take with all attempts.

    A command that is given up is not waited for, since giving back its connection may
    take as long again.

    Raises:
        RedisUnavailable: There is none, or an error.
    """
    asking = asyncio.ensure_future(command)
    try:
        await asyncio.wait({asking}, timeout=ANSWER_S)
        if asking.done():
            return asking.result()
    except FAILURES as error:
        raise RedisUnavailable(f"{error}") from None
    finally:
        if not asking.done():
            asking.add_done_callback(_take_failure)
            asking.cancel()
    raise RedisUnavailable(f"no answer within {ANSWER_S:g} s")


def _take_failure(asked: asyncio.Future[Any]) -> None:
    """Take the failure of a command that nobody waits for."""
    if not asked.cancelled():
        asked.exception()
