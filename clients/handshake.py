"""Dialling a server and opening a session on it."""

from __future__ import annotations

import asyncio
import json
from typing import Final, Literal, TypedDict

from websockets.asyncio.client import ClientConnection, connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from saccade.clients.addresses import is_loopback, stream_url
from saccade.clients.credentials import authorization
from saccade.clients.errors import (
    ConnectionLost,
    RequestRefused,
    ServerUnreachable,
    stream_error,
)
from saccade.clients.trust import trusted
from saccade.model.events.types import Sensor
from saccade.server.protocol.codec import decode_server, encode_client
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import (
    Encoding,
    ErrorMessage,
    FitPolicy,
    Open,
    Opened,
    ReadoutWindow,
    Report,
    Results,
    WhenFull,
)

LARGEST_MESSAGE: Final = 4 << 20
"""Bytes; a server's message holds one score a class, so this is ample."""
OPEN_TIMEOUT_S: Final = 20.0


class Choices(TypedDict, total=False):
    """What a client may choose on opening; `Open` holds the defaults.

    sensor: the geometry of the events to come; by default the model's own.
    fit: what to do when it is not the model's: `reject`, `scale` or `crop`.
    encoding: `packed` for `send`; `evt2` or `evt3` for `send_raw`.
    report: how often to hear; after every tick by default.
    readout: what the scores average over; the whole session by default.
    clock_bits: the camera's timestamps wrap after 2^clock_bits µs; never by default.
    when_full: `block` waits in `send` while the server is behind; `drop-oldest` never
        waits, and lets go of the oldest events that wait, here or there.
    results: `latest` lets a newer result replace one that was not read yet.
    """

    sensor: Sensor | None
    fit: FitPolicy
    encoding: Encoding
    report: Report
    readout: ReadoutWindow
    clock_bits: int | None
    when_full: WhenFull
    results: Results


async def shake_hands(url: str, opening: Open) -> tuple[ClientConnection, Opened]:
    """Dial the server at `url` and open a session.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        RequestRefused: The server wants a key, or another one.
        StreamError: The server refused to open the session.
        ConnectionLost: The server hung up instead of answering.
        ValueError: `url` is no address of a server.
    """
    socket = await _dial(url)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await socket.send(encode_client(opening))
            return socket, _expect_opened(await socket.recv())
    except TimeoutError:
        await socket.close()
        reason = f"no answer to `open` within {OPEN_TIMEOUT_S:g} s"
        raise ServerUnreachable(url, reason) from None
    except ConnectionClosed:
        lost = ConnectionLost(socket.close_code, socket.close_reason or "")
        raise lost from None
    except BaseException:
        await socket.close()
        raise


async def _dial(url: str) -> ClientConnection:
    address = stream_url(url)
    proxy: Literal[True] | None = None if is_loopback(url) else True
    try:
        return await connect_socket(
            address,
            compression=None,
            max_size=LARGEST_MESSAGE,
            open_timeout=OPEN_TIMEOUT_S,
            proxy=proxy,
            additional_headers=authorization(),
            ssl=trusted(address),
        )
    except InvalidStatus as error:
        raise _refused(url, error) from None
    except (OSError, TimeoutError, WebSocketException) as error:
        raise ServerUnreachable(url, str(error) or type(error).__name__) from error


def _refused(url: str, error: InvalidStatus) -> ServerUnreachable | RequestRefused:
    """Tell a server that wants a key from something that is no such server."""
    response = error.response
    try:
        problem = json.loads(response.body or b"")
        return RequestRefused(response.status_code, problem["code"], problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ServerUnreachable(url, str(error))


def _expect_opened(data: str | bytes) -> Opened:
    try:
        message = decode_server(data)
    except ProtocolError as error:
        raise ConnectionLost(None, f"the server's answer is unclear: {error}") from None
    match message:
        case Opened():
            return message
        case ErrorMessage():
            raise stream_error(message)
    raise ConnectionLost(None, f"the server answered `open` with {message}")
