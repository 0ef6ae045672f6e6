"""The server of one replica, in a process of its own, as `saccade serve` runs it.

The replica takes the port, so that it knows it; it sends the settings over the standard
input of the process, since they may hold secrets. Where that input ends, with the
replica, the process drains its sessions and ends too: Ray may end a replica at once.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from subprocess import PIPE, STDOUT, Popen, TimeoutExpired
from typing import Final, NamedTuple

from saccade.server.listening import CannotListen, listen
from saccade.server.ray_serve.errors import ServerFailed, ServerSilent
from saccade.server.settings import WILDCARDS, Settings, advertised, is_loopback

READY_S: Final = 600.0
"""How long a server may take until it is ready: a large model compiles for minutes."""
POLL_S: Final = 0.1
ANSWER_S: Final = 5.0
STOP_S: Final = 10.0
"""How long a server may take to end, beyond the drain, before it is killed."""
LOG_LINES: Final = 30
ELSEWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses that no machine has (RFC 5737, RFC 3849); nothing is sent there."""

Ports = range
"""Ports to choose from; `range(0, 1)` takes any free one."""


class Answer(NamedTuple):
    """A server's answer to a request: status, headers and body."""

    status: int
    headers: dict[str, str]
    body: bytes


class ServerProcess:
    """A server that listens, and loads its models.

    Args:
        settings: The server's; `{host}` and `{port}` in `advertise` are filled in.
        ports: Where it may listen.
        node: The machine's address, for a server that listens on all of them.

    Raises:
        CannotListen: None of the ports is free.
    """

    def __init__(self, settings: Settings, ports: Ports, node: str) -> None:
        listening = listen_in(settings.host, ports)
        port = listening[0].getsockname()[1]
        self.settings = advertised(with_address(settings, node, port), port)
        self._place = reached_at(settings.host), port
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._stopping = False
        descriptors = [one.fileno() for one in listening]
        self._process = start_python(descriptors)
        for one in listening:
            one.close()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended, which is found below
            pickle.dump(self.settings, self._process.stdin)
            self._process.stdin.flush()
        self._reading = threading.Thread(target=self._read_log, daemon=True)
        self._reading.start()

    @property
    def url(self) -> str:
        """The address that clients get."""
        return self.settings.advertise

    def wait_until_ready(self) -> None:
        """Wait until sessions may be opened.

        Raises:
            ServerFailed: The server has ended, or took too long.
        """
        deadline_s, reason = time.monotonic() + READY_S, ""
        while time.monotonic() < deadline_s:
            if (status := self._process.poll()) is not None:
                self._close()
                raise ServerFailed(f"ended with status {status}", self.log)
            try:
                answer = self.ask("GET", "/readyz")
            except ServerSilent as error:
                reason = error.reason
            else:
                if answer.status == HTTPStatus.OK:
                    return
                reason = answer.body.decode(errors="replace")
            time.sleep(POLL_S)
        raise ServerFailed(f"is not ready after {READY_S:g} s: {reason}", self.log)

    def check(self) -> None:
        """Raise unless the server says that it is well.

        Raises:
            ServerSilent: It says that it is not, or nothing in time.
        """
        answer = self.ask("GET", "/healthz")
        if answer.status != HTTPStatus.OK:
            raise ServerSilent(self.url, answer.body.decode(errors="replace"))

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send the server a request; return its answer.

        Raises:
            ServerSilent: There is none in time.
        """
        connection = self._connect()
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        except (OSError, HTTPException) as error:
            reason = f"{method} {path}: {error or type(error).__name__}"
            raise ServerSilent(self.url, reason) from None
        finally:
            connection.close()

    def stop(self) -> None:
        """Drain the sessions and end the process; by force if that takes too long."""
        self._stopping = True
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(self.settings.drain_s + STOP_S)
        except TimeoutExpired:
            self._process.kill()
        self._close()

    def kill(self) -> None:
        """End the process at once: its sessions go on elsewhere, from snapshots."""
        self._process.kill()
        self._close()

    def when_ended(self, act: Callable[[int], None]) -> None:
        """Call a function with the exit status where the process ends of itself."""

        def wait() -> None:
            status = self._process.wait()
            if not self._stopping:
                act(status)

        threading.Thread(target=wait, daemon=True).start()

    @property
    def log(self) -> str:
        """The last lines that the server wrote."""
        return "\n".join(self._lines)

    def _close(self) -> None:
        """Wait for the end of the process and of its log."""
        self._process.wait()
        self._reading.join()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _connect(self) -> HTTPConnection:
        if self.settings.tls_cert is None:
            return HTTPConnection(*self._place, timeout=ANSWER_S)
        # The certificate is made for the name that clients use; the port was taken by
        # this process, so that none but its child listens there.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return HTTPSConnection(*self._place, timeout=ANSWER_S, context=context)

    def _read_log(self) -> None:
        """Keep the last lines, and write all to this process's own log."""
        assert self._process.stdout is not None
        with self._process.stdout as written:
            for line in written:
                text = line.decode(errors="replace")
                self._lines.append(text.rstrip())
                sys.stderr.write(text)


def listen_in(host: str, ports: Ports) -> list[socket.socket]:
    """Listen on the first free port.

    Raises:
        CannotListen: None is free.
    """
    for port in ports:
        with suppress(CannotListen):
            return listen(host, port)
    reason = f"none of the ports up to {ports[-1]} is free; name more of them"
    raise CannotListen(host, ports[0], reason)


def with_address(settings: Settings, node: str, port: int) -> Settings:
    """Return settings that advertise where a server is reached.

    Args:
        settings: As the operator wrote them.
        node: The machine's address among the others.
        port: The server's.
    """
    address = settings.advertise
    if not address and settings.host in WILDCARDS:
        scheme = "http" if settings.tls_cert is None else "https"
        address = f"{scheme}://{{host}}:{{port}}"
    host = f"[{node}]" if ":" in node else node
    address = address.replace("{host}", host).replace("{port}", str(port))
    return replace(settings, port=port, advertise=address)


def among_others(node: str) -> str:
    """Return a machine's address among the others.

    Args:
        node: What Ray takes it for: loopback, where Ray listens there alone.
    """
    if not is_loopback(node):
        return node
    for family, elsewhere in ELSEWHERE.items():
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as unsent:
            unsent.connect((elsewhere, 1))
            return str(unsent.getsockname()[0])
    return node  # it has no network


def reached_at(host: str) -> str:
    """Return by which address this machine reaches what listens on a host."""
    if host not in WILDCARDS:
        return host
    return "::1" if host == "::" else "127.0.0.1"


def start_python(descriptors: list[int]) -> Popen[bytes]:
    """Start the process, which finds modules exactly where this one does."""
    program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as here; "
    program += f"sys.exit(here.begin({descriptors!r}))"
    return Popen(
        [sys.executable, "-c", program, "saccade-replica"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        pass_fds=descriptors,
        start_new_session=True,  # what ends a group of Ray's processes leaves it alone
    )


def begin(descriptors: list[int]) -> int:
    """Serve with the settings that the replica sends; return the exit status."""
    from saccade.server.launching import end_with_lost_device, serve_on
    from saccade.server.logs import configure_logs, ignore_signals, tell
    from saccade.server.serving import LOST_STATUS, CannotServe

    settings = pickle.load(sys.stdin.buffer)
    assert isinstance(settings, Settings)
    stop_with_replica(settings.drain_s + STOP_S)
    configure_logs(settings.log_choices)
    ignore_signals()  # until there is an event loop
    sockets = [socket.socket(fileno=one) for one in descriptors]
    try:
        status = serve_on(settings, sockets, time.perf_counter())
    except CannotServe as error:
        tell("cannot_serve", str(error), logging.ERROR)
        return error.status
    if status == LOST_STATUS:
        end_with_lost_device()
    return status


def stop_with_replica(most_s: float) -> None:
    """Drain and end this process once the replica's has ended.

    Args:
        most_s: After so long it ends without, s.
    """

    def wait() -> None:
        while os.read(0, 1):  # not by `sys.stdin`, which could not be closed at the end
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(most_s)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
