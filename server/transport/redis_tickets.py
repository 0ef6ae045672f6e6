"""Tickets in Redis: one that a server has issued opens a websocket of another.

Redis keeps a ticket's hash, never the ticket. While Redis does not answer, a ticket is
good at the server that issued it.
"""

from __future__ import annotations

import secrets
from typing import Final

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from saccade.server.transport.auth import TICKET_S, Tickets, digest_of

PREFIX: Final = "saccade:ticket:"
ANSWER_S: Final = 1.0


class RedisTickets:
    """The tickets of a fleet; see `TicketOffice`.

    Args:
        redis: Where they are kept.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis
        self._own = Tickets()

    @classmethod
    def of(cls, url: str) -> RedisTickets:
        """Return the tickets at an address, `redis://host:port/database`."""
        redis: AsyncRedis = AsyncRedis.from_url(
            url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
        )
        return cls(redis)

    async def issue(self, holder: str) -> str:
        """Return a new ticket for a key's holder."""
        ticket, kept_ms = secrets.token_urlsafe(32), int(1000 * TICKET_S)
        try:
            await self._redis.set(PREFIX + digest_of(ticket), holder, px=kept_ms)
        except (RedisError, OSError):
            return await self._own.issue(holder)
        return ticket

    async def use(self, ticket: str) -> str | None:
        """Take a ticket and return its holder; None if it is unknown or too old."""
        holder = await self._own.use(ticket)
        if holder is not None:
            return holder
        try:
            found = await self._redis.getdel(PREFIX + digest_of(ticket))
        except (RedisError, OSError):
            return None
        return found.decode() if isinstance(found, bytes) else None
