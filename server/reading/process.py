"""One reader process, as the server holds it: started, asked, ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from subprocess import DEVNULL, PIPE
from typing import IO, Final, Self, cast

from saccade.server.reading.frames import FAILED, HEADER, MOST_BYTES

SECRETS: Final = ("SACCADE_", "OTEL_")
"""Variables of the environment that begin so may hold keys: a reader gets none."""


class ReaderFailed(Exception):
    """A reader process ended, took too long, or answers what no reader may."""


class ReaderProcess:
    """A process that runs `child.main`, and the server's ends of its two pipes.

    Args:
        process: The process.
        requests: The pipe to it.
        answers: What it writes.
        pipe: The pipe that `answers` comes from.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        requests: asyncio.WriteTransport,
        answers: asyncio.StreamReader,
        pipe: asyncio.ReadTransport,
    ) -> None:
        self._process = process
        self._requests = requests
        self._answers = answers
        self._received = bytearray()
        self._pipe = pipe

    @classmethod
    async def start(cls) -> Self:
        """Start a process.

        It is started by `subprocess`, since the event loop's own way forks, which a
        process that has loaded JAX should not.
        """
        process = await asyncio.to_thread(_popen)
        loop = asyncio.get_running_loop()
        answers = asyncio.StreamReader(MOST_BYTES)
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(answers),
            cast(IO[bytes], process.stdout),
        )
        requests, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, cast(IO[bytes], process.stdin)
        )
        return cls(process, requests, answers, pipe)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, requests: bytes) -> None:
        """Send requests, which are answered in order."""
        self._requests.write(requests)

    async def frame(self, within_s: float) -> tuple[int, bytes]:
        """Receive a frame's kind and content.

        Raises:
            ReaderFailed: None comes in time, or one of no known kind.
        """
        if (found := self._take()) is not None:  # short files' frames come together
            return found
        try:
            async with asyncio.timeout(within_s):
                while (found := self._take()) is None:
                    self._received += await self._read()
                return found
        except TimeoutError:
            raise ReaderFailed(f"reading it took longer than {within_s:g} s") from None

    def _take(self) -> tuple[int, bytes] | None:
        """Take the first frame off what was received, if that holds all of it."""
        if len(self._received) < HEADER.size:
            return None
        kind, length = HEADER.unpack_from(self._received)
        if kind > FAILED or length > MOST_BYTES:
            raise ReaderFailed("its reader's answer is malformed")
        end = HEADER.size + length
        if len(self._received) < end:
            return None
        content = bytes(memoryview(self._received)[HEADER.size : end])
        del self._received[:end]
        return kind, content

    async def _read(self) -> bytes:
        """Wait for more of the answers."""
        part = b""
        with suppress(ConnectionError):
            part = await self._answers.read(MOST_BYTES)
        if not part:
            status = await asyncio.to_thread(self._process.wait)
            raise ReaderFailed(f"its reader ended with status {status}")
        return part

    async def end(self, *, at_once: bool) -> None:
        """End the process: at once, or by the end of its requests where it is idle."""
        if at_once:
            with suppress(ProcessLookupError):
                self._process.kill()
        self._requests.close()
        self._pipe.close()
        await asyncio.to_thread(self._process.wait)


def _popen() -> subprocess.Popen[bytes]:
    program = f"import sys; sys.path[:] = {sys.path!r}; "
    program += "from saccade.server.reading.child import main; main()"
    environment = {n: v for n, v in os.environ.items() if not n.startswith(SECRETS)}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-c", program, "saccade-reader"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        bufsize=0,
        env=environment | threads,
    )
