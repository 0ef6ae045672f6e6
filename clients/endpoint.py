"""A server's address, the API key to show it, and how to check its certificate.

One address names the websocket and the REST interface. The key and the file of
certificate authorities come from the environment.
"""

from __future__ import annotations

import os
import ssl
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from saccade.clients.errors import InvalidChoice

STREAM_PATH: Final = "/v1/stream"
TO_WEBSOCKET: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
TO_HTTP: Final = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
KEY_VARIABLE: Final = "SACCADE_KEY"
CA_VARIABLE: Final = "SACCADE_CA"


class Address(NamedTuple):
    """Where a server is, and the API key to show it.

    Attributes:
        url: The server's address.
        key: The key; None is that of the environment's SACCADE_KEY, if there is one.
        placed: Whether a server of a fleet has named the address for this session.
    """

    url: str
    key: str | None = None
    placed: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return authorization(self.key)


def stream_url(url: str) -> str:
    """Return the websocket address of the server at `url`.

    Raises:
        InvalidChoice: `url` is no address of a server.
    """
    parts = _parts(url)
    path = STREAM_PATH if parts.path in {"", "/"} else parts.path
    return urlunsplit((TO_WEBSOCKET[parts.scheme], parts.netloc, path, parts.query, ""))


def rest_url(url: str) -> str:
    """Return the base address of the REST interface of the server at `url`."""
    parts = _parts(url)
    path = parts.path.removesuffix(STREAM_PATH).rstrip("/")
    return urlunsplit((TO_HTTP[parts.scheme], parts.netloc, path, "", ""))


def is_loopback(url: str) -> bool:
    """Return whether `url` names this machine, which no proxy can reach."""
    return _parts(url).hostname in LOOPBACK


def authorization(key: str | None = None) -> dict[str, str]:
    """Return the header that shows an API key; none without a key.

    A key is a secret: the commands read it from the environment alone, so that it is in
    no command line and no address, and no error quotes it.

    Args:
        key: The key, whose surrounding blanks do not count; None: that of
            `SACCADE_KEY`, if it is set.

    Raises:
        InvalidChoice: No header can carry the key.
    """
    name = KEY_VARIABLE if key is None else "key"
    key = (os.environ.get(KEY_VARIABLE, "") if key is None else key).strip()
    if not all("!" <= character <= "~" for character in key):
        reason = "the API key holds blanks or other characters that no key has"
        raise InvalidChoice(name, reason)
    return {"Authorization": f"Bearer {key}"} if key else {}


def with_advice(detail: str, status: int) -> str:
    """Add to the server's sentence what this client's user can do about it."""
    if status != HTTPStatus.UNAUTHORIZED:
        return detail
    return f"{detail}; {KEY_VARIABLE} in the environment, or `key`, holds the key"


def tls_context(url: str) -> ssl.SSLContext | None:
    """Return how to check the certificate of the server at `url`; None without TLS.

    The certificate authorities are those of this machine, or those of the file that
    `SACCADE_CA` names: for a server with a certificate of its own.
    """
    if not url.startswith(("wss:", "https:")):
        return None
    file = os.environ.get(CA_VARIABLE)
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise OSError(f"cannot use the certificates in {file}: {error}") from None


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"ws://{url}")
    if parts.scheme not in TO_WEBSOCKET or not parts.hostname:
        reason = f"{url!r} is no address such as ws://127.0.0.1:8000"
        raise InvalidChoice("url", reason)
    return parts
