"""A `saccade serve` process that the client starts, waits for and stops."""

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
from saccade.clients.errors import ServerFailed, ServerUnreachable

READY_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.2
TAIL_LINES: Final = 30
TAIL_BYTES: Final = 1 << 16


class ServerProcess:
    """A `saccade serve`, ended when the context is left; port 0 takes a free one."""

    def __init__(self, arguments: Sequence[str] = (), port: int = 0) -> None:
        port = port or _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._ready = False
        self._command = [
            *(sys.executable, "-m", "saccade", "serve", "--port", str(port)),
            *("--store", "memory"),  # no later server resumes its sessions
            *arguments,
        ]

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        # A process session of its own: an interrupt at the terminal reaches this
        # process only, which then stops the server in an orderly way.
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
        """Wait until sessions may be opened, reporting what the server is doing.

        Raises ServerFailed where the server ended, or took too long.
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
    def running(self) -> bool:
        """Whether the server's process has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Id of the server's process."""
        return self._process.pid

    def log(self) -> str:
        """Return the last lines that the server wrote."""
        # The server writes where this file stands, so it is read without moving.
        file = self._log.fileno()
        start = max(0, os.fstat(file).st_size - TAIL_BYTES)
        lines = os.pread(file, TAIL_BYTES, start).decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def stop(self) -> int:
        """End the server, by force if it does not end, and return its exit status."""
        if not self._ready:  # no session is open, and compiling takes long
            return self.kill()
        try:
            if self._process.poll() is None:
                self._process.terminate()
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return self.kill()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> int:
        """End the server by force, and return its exit status."""
        self._process.kill()
        return self._process.wait()

    def restart(self) -> None:
        """Start a server that has ended again, on the same port."""
        self._log.close()
        self._ready = False
        self.__enter__()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
