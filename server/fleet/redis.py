"""A directory in Redis: servers that share a store of sessions find each other there.

All keys carry one hash tag, so that the scripts run in a Redis Cluster too. Times are
Redis' own: no two servers' clocks are compared.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from saccade.server.fleet.directory import Directory, DirectoryUnavailable
from saccade.server.fleet.report import Report
from saccade.server.logs import about
from saccade.server.redis_address import RedisAddress, RedisUnavailable, answered

LOG: Final = logging.getLogger(__name__)

INDEX: Final = "saccade:{fleet}:replicas"
"""A sorted set: each process by when its report expires, ms."""
REPORTS: Final = "saccade:{fleet}:reports"
"""A hash: each process's report."""
NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
ANNOUNCE: Final = f"""{NOW}
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
"""
WITHDRAW: Final = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
"""
READ: Final = f"""{NOW}
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
for _, name in ipairs(gone) do
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end
return redis.call('HVALS', KEYS[2])
"""


class RedisDirectory(Directory):
    """The reports in one Redis, or on one node of a cluster.

    Args:
        url: Its address; see `RedisAddress`.

    Raises:
        ValueError: It is no such address.
    """

    def __init__(self, url: str) -> None:
        self._redis = RedisAddress.read(url).client()

    async def announce(self, report: Report, ttl_s: float) -> None:
        """Keep a report; see Directory."""
        ttl_ms = int(1000 * ttl_s)
        await self._run(ANNOUNCE, _name(report), ttl_ms, report.to_json())

    async def withdraw(self, report: Report) -> None:
        """Remove a report; see Directory."""
        await self._run(WITHDRAW, _name(report))

    async def reports(self) -> list[Report]:
        """Return the reports; see Directory. One that cannot be read is left out."""
        found = []
        for text in await self._run(READ):
            try:
                found.append(Report.from_json(text))
            except ValueError as error:  # of another version of Saccade
                LOG.warning(
                    "a report of the fleet cannot be read: %s",
                    error,
                    extra=about("fleet_outage"),
                )
        return found

    async def close(self) -> None:
        """Close the connections; see Directory."""
        await self._redis.aclose()

    async def _run(self, script: str, *arguments: Any) -> Any:
        command = self._redis.eval(script, 2, INDEX, REPORTS, *arguments)
        try:
            return await answered(command)
        except RedisUnavailable as error:
            raise DirectoryUnavailable(f"{error}") from None


def _name(report: Report) -> str:
    return f"{report.replica}/{report.part}"
