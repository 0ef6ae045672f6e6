"""A store in Redis: it outlives the server, and several servers may share it.

Each step that reads before it writes is a script, which Redis runs atomically. Redis
deletes expired records by itself. Its configuration decides what a kill of Redis may
lose: nothing with `appendonly yes` and `appendfsync always`.
"""

from __future__ import annotations

from typing import Any, Final

from redis import Redis
from redis.asyncio import BlockingConnectionPool, Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from saccade.server.sessions.stores.store import Fenced, Record, Store, StoreUnavailable

PREFIX: Final = "saccade:session:"
ANSWER_S: Final = 5.0
"""How long to wait for an answer before the store counts as unavailable."""
RETRIES: Final = 3
CONNECTIONS: Final = 8

KEEP: Final = """
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'expires_s', ARGV[2], 'data', ARGV[3])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1
"""
HELD: Final = "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end"
SAVE: Final = HELD + KEEP
TOUCH: Final = f"""{HELD}
redis.call('HSET', KEYS[1], 'expires_s', ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1
"""
DELETE: Final = f"{HELD} return redis.call('DEL', KEYS[1])"
CLAIM: Final = """
local expires_s = redis.call('HGET', KEYS[1], 'expires_s')
if not expires_s or tonumber(expires_s) <= tonumber(ARGV[1]) then return false end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return redis.call('HMGET', KEYS[1], 'epoch', 'expires_s', 'data')
"""


class RedisStore(Store):
    """Records as hashes of one Redis.

    Args:
        url: Its address, `redis://host:port/database`; `rediss://` is with TLS.

    Raises:
        StoreUnavailable: No Redis answers at this address.
    """

    def __init__(self, url: str) -> None:
        try:
            with Redis.from_url(url, socket_timeout=ANSWER_S) as probe:
                probe.ping()
        except (RedisError, OSError, ValueError) as error:
            raise StoreUnavailable(f"Redis: {error}") from None
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=ANSWER_S,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), RETRIES),
        )
        self._redis = AsyncRedis.from_pool(pool)

    async def create(self, record: Record) -> None:
        """Keep a new record; see Store."""
        await self._run(KEEP, record.key, *_written(record))

    async def save(self, record: Record) -> None:
        """Replace a record; see Store."""
        if not await self._run(SAVE, record.key, *_written(record)):
            raise Fenced

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; see Store."""
        found = await self._run(CLAIM, key, repr(now_s))
        if found is None:
            return None
        epoch, expires_s, data = found
        return Record(key, int(epoch), float(expires_s), data)

    async def touch(self, key: str, epoch: int, expires_s: float) -> None:
        """Change when a record expires; see Store."""
        await self._run(TOUCH, key, epoch, repr(expires_s), _in_ms(expires_s))

    async def delete(self, key: str, epoch: int) -> None:
        """Delete a record; see Store."""
        await self._run(DELETE, key, epoch)

    async def sweep(self, now_s: float) -> int:
        """Do nothing: Redis deletes expired records by itself; see Store."""
        return 0

    async def close(self) -> None:
        """Close the connections; see Store."""
        await self._redis.aclose()

    async def _run(self, script: str, key: str, *arguments: Any) -> Any:
        """Run a script on a record.

        A script may run twice where its first answer was lost. That does no harm: a
        second claim skips an epoch, and the other scripts are idempotent.
        """
        try:
            return await self._redis.eval(script, 1, PREFIX + key, *arguments)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis: {error}") from None


def _written(record: Record) -> tuple[Any, ...]:
    expires_s = record.expires_s
    return record.epoch, repr(expires_s), record.data, _in_ms(expires_s)


def _in_ms(seconds: float) -> int:
    return int(1000 * seconds)
