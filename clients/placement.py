"""Where to open a session: asked of a server of the fleet before every dial.

A server that is alone, or too old to know the question, is dialled as it was asked for.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from saccade.clients.endpoint import Address, is_loopback, rest_url, tls_context
from saccade.clients.errors import ServerUnavailable, ServerUnreachable

ANSWER_S: Final = 3.0
"""How long a server may take to place a session; then another is asked."""
FULL: Final = "slots_exhausted"
MOST_OTHERS: Final = 8
MOST_UNREACHABLE: Final = 4
LARGEST_ANSWER: Final = 1 << 16
"""Bytes."""


class Answer(NamedTuple):
    """What a server answered to the request for a placement."""

    status: int
    body: bytes


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
        self._unreachable: list[str] = []
        self.reached = False
        """Whether a Saccade server has answered: one that is gone now may come back."""

    async def find(self) -> Address:
        """Return the address to dial: `placed` where a server has chosen it.

        Raises:
            ServerUnavailable: Every server with the model is full.
        """
        for url in (self._address.url, *self._others):
            address = Address(url, self._address.key)
            asked = {"model": self._model, "unreachable": self._unreachable}
            answer = await asyncio.to_thread(ask, address, asked)
            if answer is not None:
                return self._read(answer)
        return self._address

    def failed(self, address: Address) -> None:
        """Note that a placed address could not be reached: another is asked for."""
        if address.placed:
            known = [url for url in self._unreachable if url != address.url]
            self._unreachable = [*known, address.url][-MOST_UNREACHABLE:]

    def _read(self, answer: Answer) -> Address:
        try:
            fields: dict[str, Any] = json.loads(answer.body)
            if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
                self._raise_if_full(fields)
            if answer.status != HTTPStatus.OK:
                return self._address
            self.reached = True
            if fields["replica"] is None:
                return self._address
            url, others = fields["url"], fields["others"]
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


def ask(address: Address, asked: dict[str, Any]) -> Answer | None:
    """Ask a server where to open a session; None where none answers there."""
    base = rest_url(address.url)
    request = Request(
        f"{base}/v1/sessions",
        data=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json", **address.headers},
    )
    try:
        handlers: list[Any] = [HTTPSHandler(context=tls_context(base))]
        if is_loopback(address.url):
            handlers.append(ProxyHandler({}))
        with build_opener(*handlers).open(request, timeout=ANSWER_S) as response:
            return Answer(response.status, response.read(LARGEST_ANSWER))
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read(LARGEST_ANSWER))
    except (OSError, HTTPException, ValueError):
        return None
