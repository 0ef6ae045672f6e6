"""Requests to the other replicas of a fleet, on behalf of whoever asked this one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from collections.abc import Iterable
from http.client import HTTPException
from typing import Any, Final
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from saccade.server.fleet.report import Replica
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)
ANSWER_S: Final = 2.0
"""How long a replica may take to answer; one that does not is left out."""
ONLY_HERE: Final = "?fleet=false"
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
    asked = [asyncio.to_thread(_ask, one, method, path, headers) for one in replicas]
    answers = await asyncio.gather(*asked)
    return [answer for answer in answers if answer is not None]


def _ask(
    replica: Replica, method: str, path: str, headers: dict[str, str]
) -> tuple[Replica, Any] | None:
    url = f"{replica.url.rstrip('/')}{path}{ONLY_HERE}"
    try:
        request = Request(url, headers=headers, method=method)
        if request.type not in {"http", "https"}:
            return None
        handlers: list[Any] = [ProxyHandler({})]
        if request.type == "https":
            handlers.append(HTTPSHandler(context=_trust()))
        with build_opener(*handlers).open(request, timeout=ANSWER_S) as response:
            content = response.read()
        return replica, json.loads(content) if content else None
    except (OSError, HTTPException, ValueError) as error:
        facts = about("replica_unreachable", url=replica.url)
        text = "replica %s did not answer with success: %s"
        LOG.info(text, replica.url, error, extra=facts)
        return None


def _trust() -> ssl.SSLContext:
    """Return how certificates of other replicas are checked."""
    return ssl.create_default_context(cafile=os.environ.get(CA_VARIABLE))
