"""Where to open a session: asked of a server of the fleet before every dial.

A server that is alone, or too old to know the question, is dialled as it was asked for.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from saccade.clients.endpoint import Address, is_loopback, rest_url, tls_context
from saccade.clients.errors import ServerUnavailable, ServerUnreachable

ANSWER_S: Final = 3.0
"""How long a server may take to place a session; then another is asked."""
FULL: Final = "slots_exhausted"
MOST_OTHERS: Final = 8


class Finder:
    """Finds the server for one session, at first and after each lost connection.

    Args:
        address: The server that the caller named.
        model: The session's model.
    """

    def __init__(self, address: Address, model: str) -> None:
        self._address = address
        self._model = model
        self._others: list[str] = []

    async def find(self) -> Address:
        """Return the address to dial: `placed` where a server has chosen it.

        Raises:
            ServerUnavailable: Every server with the model is full.
        """
        for url in (self._address.url, *self._others):
            answer = await self._ask(url)
            if answer is not None:
                return self._read(answer)
        return self._address

    async def _ask(self, url: str) -> httpx.Response | None:
        """Ask a server; None where none answers there."""
        base = rest_url(url)
        try:
            async with httpx.AsyncClient(
                timeout=ANSWER_S,
                headers=self._address.headers,
                trust_env=not is_loopback(url),
                verify=tls_context(base) or True,
            ) as client:
                asked = {"model": self._model}
                return await client.post(f"{base}/v1/sessions", json=asked)
        except (httpx.TransportError, OSError):
            return None

    def _read(self, response: httpx.Response) -> Address:
        try:
            answer: dict[str, Any] = response.json()
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                self._raise_if_full(answer)
            if not response.is_success or answer["replica"] is None:
                return self._address
            url, others = answer["url"], answer["others"]
            self._check(url)
            self._others = [self._check(other) for other in others[:MOST_OTHERS]]
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._address  # no server of ours, which the handshake will tell
        return Address(url, self._address.key, placed=True)

    def _raise_if_full(self, answer: dict[str, Any]) -> None:
        if answer["code"] == FULL:
            wait_s = float(answer.get("retry_after_s", 1.0))
            raise ServerUnavailable(self._address.url, answer["detail"], wait_s)

    def _check(self, url: str) -> str:
        """Return an address of the fleet, if a key may be shown to it.

        Raises:
            ServerUnreachable: The fleet names one without TLS to a client that asked
                with TLS.
        """
        asked, named = rest_url(self._address.url), urlsplit(rest_url(url))
        if asked.startswith("https:") and named.scheme != "https":
            reason = "its fleet names it without TLS; its --advertise should be https"
            raise ServerUnreachable(url, reason)
        return url
