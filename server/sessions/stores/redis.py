"""A store in Redis or Valkey: it outlives the server, and several servers may share it.

Each step that reads before it writes is a script, which Redis runs atomically, on one
key: so a cluster may spread the records over its nodes. Redis deletes expired records
by itself. Its configuration decides what a kill of Redis may lose: nothing with
`appendonly yes` and `appendfsync always`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar

from saccade.server.redis_address import (
    FAILURES,
    RedisAddress,
    RedisUnavailable,
    answered,
)
from saccade.server.sessions.stores.store import (
    Answer,
    Change,
    Check,
    Delete,
    Outcome,
    Record,
    Store,
    StoreUnavailable,
    Touch,
    first_epoch,
)

T = TypeVar("T")

PREFIX: Final = "saccade:session:"
SAVE: Final = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and (tonumber(epoch) > tonumber(ARGV[1])
  or redis.call('HEXISTS', KEYS[1], 'data') == 0) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'expires_s', ARGV[2], 'data', ARGV[4])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1
"""
"""A record without `data` is a tombstone."""
DELETE: Final = """
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and tonumber(epoch) > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'expires_s', ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1
"""
TOUCH: Final = """
local found = redis.call('HMGET', KEYS[1], 'epoch', 'expires_s')
if not found[1] then return 2 end
if tonumber(found[1]) > tonumber(ARGV[1])
  or redis.call('HEXISTS', KEYS[1], 'data') == 0 then return 0 end
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then return 2 end
if ARGV[3] then
  redis.call('HSET', KEYS[1], 'expires_s', ARGV[3])
  redis.call('PEXPIREAT', KEYS[1], ARGV[4])
end
return 1
"""
CLAIM: Final = """
local found = redis.call('HMGET', KEYS[1], 'epoch', 'expires_s', 'data')
if not found[3] or tonumber(found[2]) <= tonumber(ARGV[1]) then return false end
local epoch = math.max(tonumber(found[1]) + 1, tonumber(ARGV[2]))
epoch = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'epoch', epoch)
return {epoch, found[2], found[3]}
"""


class RedisStore(Store):
    """Records as hashes of one Redis, or of a cluster.

    Args:
        url: Its address: `redis://host:port/database`, `rediss://…` with TLS,
            `redis+cluster://host:port,host:port` a cluster by some of its nodes;
            `valkey` in place of `redis` is the same.

    Raises:
        StoreUnavailable: It is no such address, or no Redis answers there.
    """

    def __init__(self, url: str) -> None:
        try:
            address = RedisAddress.read(url)
            address.probe()
        except (*FAILURES, ValueError) as error:
            raise StoreUnavailable(f"Redis: {error}") from None
        self._redis = address.client()

    async def write(self, changes: Sequence[Change]) -> list[Answer]:
        """Do changes in one pipeline; see Store.

        A script may run twice where its first answer was lost: a save and a deletion
        are then done again, and a record that was touched counts as missing.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for change in changes:
            script, *arguments = _script(change)
            pipeline.eval(script, 1, PREFIX + change.key, *arguments)
        answers = await _answered(pipeline.execute(raise_on_error=False))
        return [_answer(answer) for answer in answers]

    async def claim(self, key: str, now_s: float) -> Record | None:
        """Raise a record's epoch and return it; see Store.

        Where the first answer was lost, a second claim skips an epoch.
        """
        arguments = repr(now_s), first_epoch(now_s)
        command = self._redis.eval(CLAIM, 1, PREFIX + key, *arguments)
        found = await _answered(command)
        if found is None:
            return None
        epoch, expires_s, data = found
        return Record(key, int(epoch), float(expires_s), data)

    async def sweep(self, now_s: float) -> int:
        """Do nothing: Redis deletes expired records by itself; see Store."""
        return 0

    async def close(self) -> None:
        """Close the connections; see Store."""
        await self._redis.aclose()


def _script(change: Change) -> tuple[Any, ...]:
    """Return the script that does a change, and its arguments."""
    match change:
        case Record(_, epoch, expires_s, data):
            return SAVE, epoch, repr(expires_s), _in_ms(expires_s), data
        case Delete(_, epoch, expires_s):
            return DELETE, epoch, repr(expires_s), _in_ms(expires_s)
        case Touch(_, epoch, was_s, expires_s):
            return TOUCH, epoch, repr(was_s), repr(expires_s), _in_ms(expires_s)
        case Check(_, epoch, was_s):
            return TOUCH, epoch, repr(was_s)


async def _answered(command: Awaitable[T]) -> T:
    """Wait for an answer, as long as one may take with all attempts."""
    try:
        return await answered(command)
    except RedisUnavailable as error:
        raise StoreUnavailable(f"{error}") from None


def _answer(answer: Any) -> Answer:
    if isinstance(answer, Exception):
        return StoreUnavailable(f"Redis: {answer}")
    return Outcome(answer)


def _in_ms(seconds: float) -> int:
    return int(1000 * seconds)
