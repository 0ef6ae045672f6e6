"""A server of one's own, in another process, for as long as it is needed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

from saccade.clients import http
from saccade.clients.errors import ClientError, ServerUnreachable

READY_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.2
TAIL_LINES: Final = 30
TAIL_BYTES: Final = 1 << 16


class ServerFailed(ClientError):
    """The server ended, or never became ready."""

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(reason, log)
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        return f"{self.reason}; its last words:\n{self.log}"


class ServerProcess:
    """A `saccade serve` on a free port; leaving the context ends it, always.

    Args:
        arguments: More arguments of `saccade serve`.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._ready = False
        self._command = [
            *(sys.executable, "-m", "saccade", "serve", "--port", str(port)),
            *("--store", "memory"),  # it does not come back for its sessions
            *arguments,
        ]

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        # A session of its own: an interrupt at the terminal is for this
        # process, which then stops the server in an orderly way.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._log.close()

    def wait_until_ready(self, progress: Callable[[str], None]) -> None:
        """Wait until sessions may be opened.

        Args:
            progress: Is told, again and again, what the server is doing.

        Raises:
            ServerFailed: It ended, or took too long.
        """
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if (status := self._process.poll()) is not None:
                raise ServerFailed(f"the server ended with status {status}", self.log())
            try:
                ready, reason = http.readiness(self.url)
            except ServerUnreachable:
                ready, reason = False, "loading"
            if ready:
                self._ready = True
                return
            progress(reason)
            time.sleep(POLL_S)
        reason = f"the server was not ready within {READY_TIMEOUT_S:g} s"
        raise ServerFailed(reason, self.log())

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        return self._process.pid

    def log(self) -> str:
        """Return the end of what the server has written."""
        # The server writes where this file stands, so it is read without moving.
        file = self._log.fileno()
        start = max(0, os.fstat(file).st_size - TAIL_BYTES)
        lines = os.pread(file, TAIL_BYTES, start).decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def stop(self) -> int:
        """End the server, by force if it must be, and return its exit status."""
        if not self._ready:  # nobody's session is open, and compiling takes long
            return self._kill()
        try:
            if self._process.poll() is None:
                self._process.terminate()
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return self._kill()
        except BaseException:
            self._kill()
            raise

    def _kill(self) -> int:
        self._process.kill()
        return self._process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
