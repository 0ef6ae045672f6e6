"""API keys, of which the server keeps hashes only, and one-time tickets.

A key has 256 random bits, too many to guess, so a plain SHA-256 protects it as well
as a slow hash would.

A web page cannot put a header on a websocket, and a key in an address would end up in
logs. The page fetches a ticket with its key instead; a ticket opens one connection,
within seconds.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, Self

PREFIX: Final = "saccade_"
OPERATOR: Final = "operator"
DIGEST_CHARACTERS: Final = 64
TICKET_S: Final = 30.0
MOST_TICKETS: Final = 10_000


class Keys:
    """The hashes of the keys, by the name of each key's holder.

    Args:
        digests: For each name, its key's SHA-256 in hexadecimal.
        operators: The names of the holders that may see the sessions of all.
    """

    def __init__(self, digests: dict[str, str], operators: Iterable[str] = ()) -> None:
        self._digests = digests
        self._operators = frozenset(operators)

    def __bool__(self) -> bool:
        return bool(self._digests)

    @classmethod
    def read(cls, file: Path | None, lines: Iterable[str]) -> Self:
        """Read `NAME:SHA256` lines, those of a file first; `#` begins a comment.

        `:operator` at a line's end makes the key an operator's.

        Raises:
            ValueError: The file cannot be read, or a line is no such pair; the line
                itself is not quoted, since it may hold a key by mistake.
        """
        digests: dict[str, str] = {}
        operators: set[str] = set()
        for number, line in enumerate([*_file_lines(file), *lines], start=1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            name, _, rest = text.partition(":")
            digest, _, role = rest.partition(":")
            if not (name and _is_digest(digest) and role in {"", OPERATOR}):
                raise ValueError(f"key {number} is not NAME:SHA256; see `saccade key`")
            digests[name] = digest
            operators -= {name}
            operators |= {name} if role else set()
        return cls(digests, operators)

    def sees_all(self, holder: str) -> bool:
        """Return whether a holder may see the sessions of all, as an operator.

        Where there are no keys, everybody may.
        """
        return not self._digests or holder in self._operators

    def holder(self, key: str) -> str | None:
        """Return the name of a key's holder; None for an unknown key.

        Every hash is compared, each in constant time, so that the time taken is the
        same for every key.
        """
        digest = digest_of(key)
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def new_key() -> str:
    """Return a new key."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return the hash of a key, in hexadecimal."""
    return sha256(key.encode()).hexdigest()


def _is_digest(text: str) -> bool:
    hexadecimal = all(character in "0123456789abcdef" for character in text)
    return len(text) == DIGEST_CHARACTERS and hexadecimal


def _file_lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the keys in {file}: {error}") from None


class TicketOffice(Protocol):
    """Issues tickets and takes them back, once each."""

    async def issue(self, holder: str) -> str:
        """Return a new ticket for a key's holder."""

    async def use(self, ticket: str) -> str | None:
        """Take a ticket and return its holder; None if it is unknown or too old."""


class Tickets:
    """The tickets that were issued and not yet used.

    Args:
        clock: Seconds, never backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[float, str]] = {}

    async def issue(self, holder: str) -> str:
        """Return a new ticket; the oldest is dropped where there are too many."""
        self._expire()
        if len(self._waiting) >= MOST_TICKETS:
            del self._waiting[next(iter(self._waiting))]
        ticket = secrets.token_urlsafe(32)
        self._waiting[ticket] = (self._clock() + TICKET_S, holder)
        return ticket

    async def use(self, ticket: str) -> str | None:
        """Remove a ticket and return its holder; None if it is unknown or too old."""
        self._expire()
        _, holder = self._waiting.pop(ticket, (0.0, None))
        return holder

    def _expire(self) -> None:
        now_s = self._clock()
        while self._waiting:
            oldest = next(iter(self._waiting))
            if self._waiting[oldest][0] > now_s:
                break
            del self._waiting[oldest]
