"""Requests to the other replicas of a fleet, on behalf of whoever asked this one."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpx

from saccade.server.fleet.report import Replica

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 2.0
"""How long a replica may take to answer; one that does not is left out."""
ONLY_HERE: Final = {"fleet": "false"}
"""The query by which a replica is asked for itself alone."""
CA_VARIABLE: Final = "SACCADE_CA"


async def ask_replicas(
    replicas: Iterable[Replica], method: str, path: str, authorization: str
) -> list[tuple[Replica, Any]]:
    """Ask replicas the same, all at once; return each answer that is a success.

    Args:
        replicas: Whom to ask.
        method: HTTP's method.
        path: As `/v1/sessions`.
        authorization: The asking client's own header, so that each replica decides by
            its own keys.

    Returns:
        The replicas that answered, and their JSON; None for an empty answer.
    """
    headers = {"Authorization": authorization} if authorization else {}
    async with httpx.AsyncClient(
        timeout=ANSWER_S, headers=headers, trust_env=False, verify=_trust()
    ) as client:
        asked = [_ask(client, one, method, path) for one in replicas]
        answers = await asyncio.gather(*asked)
    return [answer for answer in answers if answer is not None]


async def _ask(
    client: httpx.AsyncClient, replica: Replica, method: str, path: str
) -> tuple[Replica, Any] | None:
    try:
        url = f"{replica.url.rstrip('/')}{path}"
        response = await client.request(method, url, params=ONLY_HERE)
        if not response.is_success:
            return None
        return replica, response.json() if response.content else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        LOG.warning("replica %s does not answer: %s", replica.url, error)
        return None


def _trust() -> ssl.SSLContext:
    """Return how certificates of other replicas are checked."""
    return ssl.create_default_context(cafile=os.environ.get(CA_VARIABLE))
