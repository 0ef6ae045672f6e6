"""What a child process is started for, and its end with the supervisor's."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pickle
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from saccade.server.settings import Settings
from saccade.server.workers.framing import LENGTH, framed
from saccade.server.workers.large_blocks import return_large_blocks

ENGINE: Final = -1
"""The index of the engine process; workers count from 0."""


@dataclass(frozen=True)
class Assignment:
    """The part of a server that one process plays.

    Attributes:
        settings: The server's.
        index: The worker's number, or `ENGINE`.
        sockets: Folder of the sockets between workers and engine.
        compiled: Folder that keeps what is compiled.
        listening: Descriptors of the sockets to accept clients from.
    """

    settings: Settings
    index: int
    sockets: Path
    compiled: Path
    listening: tuple[int, ...]

    @property
    def name(self) -> str:
        """The process's name in the log."""
        return "engine" if self.index == ENGINE else f"worker {self.index}"

    @property
    def slots(self) -> list[range]:
        """The slots of each model that the worker leases: of each device's a share."""
        slots, workers = self.settings.slots, self.settings.workers
        begin, end = (n * slots // workers for n in (self.index, self.index + 1))
        return [
            range(device * slots + begin, device * slots + end)
            for device in range(self.settings.device.count)
        ]

    @property
    def sessions(self) -> int:
        """How many sessions of each model the worker takes: an equal share."""
        return -(-self.settings.sessions // self.settings.workers)

    async def start(self) -> tuple[Process, socket.socket]:
        """Start the process; return it, and the supervisor's end of its connection.

        The settings travel over the connection: they hold secrets, which a command
        line would show to every user.
        """
        ours, theirs = socket.socketpair()
        program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as here; "
        program += f"sys.exit(here.begin({theirs.fileno()}))"
        label = self.name.replace(" ", "-")  # for who lists the processes
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", program, f"saccade-{label}"),
                stdin=DEVNULL,
                pass_fds=(theirs.fileno(), *self.listening),
            )
        ours.sendall(framed(pickle.dumps(self)))
        return process, ours

    @classmethod
    def receive(cls, connection: socket.socket) -> Self:
        """Read the assignment that the supervisor has sent."""
        (length,) = LENGTH.unpack(_read(connection, LENGTH.size))
        assignment = pickle.loads(_read(connection, length))
        assert isinstance(assignment, cls)
        return assignment


def begin(descriptor: int) -> int:
    """Play the part that the supervisor assigns; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        # A terminal, or a service manager, signals the whole group: the supervisor
        # decides in which order its processes end, and what they log.
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptor)
    assignment = Assignment.receive(connection)
    from saccade.server.logs import configure_logs

    configure_logs(assignment.settings.log_choices, assignment.name)
    if assignment.index != ENGINE:
        return_large_blocks()
    with _alone(assignment.compiled):  # what one compiles, the others find
        import saccade.server.engine.host_kernels  # noqa: F401
        from saccade.server.protocol.ingest import prepare_ingest

        if assignment.index != ENGINE:
            prepare_ingest()
    if assignment.index == ENGINE:
        from saccade.server.workers import engine_process as part
    else:
        from saccade.server.workers import worker as part  # type: ignore[no-redef]
    return part.main(assignment, connection)


def end_with_supervisor() -> None:
    """End at once: nobody is left to drain for."""
    os._exit(1)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Run what only one process may at a time."""
    with (folder / "compiling.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            end_with_supervisor()
        data += part
    return data
