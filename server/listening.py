"""The sockets that a server listens on, taken before anything costly begins."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Address: TypeAlias = tuple[Any, ...]
"""An address as the socket module gives it; its second entry is the port."""

BACKLOG: Final = 2048
"""Connections that may wait to be accepted; Linux takes net.core.somaxconn at most."""

REASONS: Final = {
    errno.EADDRINUSE: "another program listens there; --port takes another port",
    errno.EADDRNOTAVAIL: "this machine has no such address; --host takes another",
    errno.EACCES: "this user may not; ports from 1024 on are free to all",
}


@dataclass(eq=False)
class CannotListen(Exception):
    """The address cannot be listened on."""

    host: str
    port: int
    reason: str

    def __str__(self) -> str:
        return f"cannot listen on port {self.port} of {self.host}: {self.reason}"


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that a host's name has.

    Connections wait from now on, and are answered once the server accepts them.

    Args:
        host: An address or a name.
        port: The port; 0 takes a free one, the same for each address.

    Raises:
        CannotListen: The port is taken, or the host is not this machine.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            if sockets and port == 0:
                port_taken = sockets[0].getsockname()[1]
                address = (address[0], port_taken, *address[2:])
            sockets.append(_listen(family, address))
    except OSError as error:
        for opened in sockets:
            opened.close()
        reason = REASONS.get(error.errno or 0, error.strerror or str(error))
        raise CannotListen(host, port, reason) from None
    return sockets


def _addresses(host: str, port: int) -> list[tuple[int, Address]]:
    found = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]


def _listen(family: int, address: Address) -> socket.socket:
    result = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are still being closed is free.
        result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            result.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        result.bind(address)
        result.listen(BACKLOG)
    except OSError:
        result.close()
        raise
    return result
