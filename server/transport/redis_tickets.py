"""Tickets in Redis: one that a server has issued opens a websocket of another.

Redis keeps a ticket's hash, never the ticket. While Redis does not answer, a ticket is
good at the server that issued it.
"""

from __future__ import annotations

import secrets
from typing import Final

from saccade.server.redis_address import RedisAddress, RedisUnavailable, answered
from saccade.server.transport.auth import TICKET_S, Tickets, digest_of

PREFIX: Final = "saccade:ticket:"


class RedisTickets:
    """The tickets of a fleet; see `TicketOffice`.

    Args:
        url: The address of the Redis that keeps them; see `RedisAddress`.

    Raises:
        ValueError: It is no such address.
    """

    def __init__(self, url: str) -> None:
        self._redis = RedisAddress.read(url).client()
        self._own = Tickets()

    async def issue(self, holder: str) -> str:
        """Return a new ticket for a key's holder."""
        ticket, kept_ms = secrets.token_urlsafe(32), int(1000 * TICKET_S)
        try:
            kept = self._redis.set(PREFIX + digest_of(ticket), holder, px=kept_ms)
            await answered(kept)
        except RedisUnavailable:
            return await self._own.issue(holder)
        return ticket

    async def use(self, ticket: str) -> str | None:
        """Take a ticket and return its holder; None if it is unknown or too old."""
        holder = await self._own.use(ticket)
        if holder is not None:
            return holder
        try:
            found = await answered(self._redis.getdel(PREFIX + digest_of(ticket)))
        except RedisUnavailable:
            return None
        return found.decode() if isinstance(found, bytes) else None
