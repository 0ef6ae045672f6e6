"""One address of a server, as its websocket and as its REST interface see it."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

STREAM_PATH: Final = "/v1/stream"
TO_WEBSOCKET: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
TO_HTTP: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def stream_url(url: str) -> str:
    """Return the websocket address of the server at `url`.

    Raises:
        ValueError: `url` is no address of a server.
    """
    parts = _parts(url)
    path = STREAM_PATH if parts.path in {"", "/"} else parts.path
    return urlunsplit((TO_WEBSOCKET[parts.scheme], parts.netloc, path, parts.query, ""))


def rest_url(url: str) -> str:
    """Return the base address of the REST interface of the server at `url`.

    Raises:
        ValueError: `url` is no address of a server.
    """
    parts = _parts(url)
    path = parts.path.removesuffix(STREAM_PATH).rstrip("/")
    return urlunsplit((TO_HTTP[parts.scheme], parts.netloc, path, "", ""))


def is_loopback(url: str) -> bool:
    """Tell whether `url` names this machine, which no proxy can reach."""
    return _parts(url).hostname in LOOPBACK


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    if parts.scheme not in TO_WEBSOCKET or not parts.hostname:
        raise ValueError(f"{url!r} is no address such as ws://127.0.0.1:8000")
    return parts
