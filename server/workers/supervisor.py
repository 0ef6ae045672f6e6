"""The process that a user starts: it starts the others, and ends them in order.

It owns the listening sockets and what the workers have in common. It touches no event,
so that it has no reason to fail; where it is killed, the others end with it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from saccade.server.app import create_tickets, read_keys
from saccade.server.engine.health import Health, ModelHealth
from saccade.server.logs import JOURNAL, about, tell, toggle_level
from saccade.server.serving import CannotServe, say_ready, show_progress, until, url
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.settings import Settings
from saccade.server.transport.metrics import Metrics
from saccade.server.workers.assignment import ENGINE, Assignment
from saccade.server.workers.channel import health_from_plain
from saccade.server.workers.large_blocks import return_large_blocks
from saccade.server.workers.merged_metrics import Counts, Families, families_of
from saccade.server.workers.peer import Handler, Listener, Peer, ask_all
from saccade.server.workers.shared import store_handlers

LOG: Final = logging.getLogger(__name__)
MOST_FAILED_STARTS: Final = 5
"""A process that ends so often before it is up has a cause that stays."""

BACKOFF_S: Final = 0.1
STOP_S: Final = 10.0
"""How long a process may take to end, beyond the drain, before it is killed."""

LOADING: Final = Health({"the models": ModelHealth("starting", "loading", "loading")})


class Child:
    """One process of the server, and the one that replaces it when it ends.

    Attributes:
        assignment: The part that it plays.
        peer: The process that runs now; None between two.
        up: Whether that process serves.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.peer: Peer | None = None
        self.up = False
        self._process: Process | None = None
        self._failed_starts = 0

    async def run(self, new_peer: Callable[[], Peer]) -> int:
        """Run one process from its start to its end; return its exit status."""
        self._process, connection = await self.assignment.start()
        self.peer = new_peer()
        await self.peer.connect(connection)
        status = await self._process.wait()
        if self.up:
            self._failed_starts = 0
        elif status != -signal.SIGKILL:  # which says nothing about the process
            self._failed_starts += 1
        self.peer.close()
        self.peer, self.up, self._process = None, False, None
        return status

    @property
    def hopeless(self) -> bool:
        """Whether the process ends each time before it is up."""
        return self._failed_starts >= MOST_FAILED_STARTS

    @property
    def pause_s(self) -> float:
        """How long to wait before the next start."""
        return BACKOFF_S * float(2**self._failed_starts - 1)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()


class Supervisor:
    """The processes of one server.

    Args:
        settings: The server's.
        listening: Sockets that the workers accept clients from.
        compiled: Folder that keeps what is compiled.
        sockets: Folder of the sockets between workers and engine.
    """

    def __init__(
        self,
        settings: Settings,
        listening: list[socket.socket],
        compiled: Path,
        sockets: Path,
    ) -> None:
        self._settings = settings
        self._listening = listening
        files = tuple(one.fileno() for one in listening)
        new = partial(Assignment, settings, sockets=sockets, compiled=compiled)
        self._engine = Child(new(index=ENGINE, listening=()))
        self._workers = [
            Child(new(index=index, listening=files))
            for index in range(settings.workers)
        ]
        self._store = MemoryStore()
        self._tickets = create_tickets(settings)
        self._metrics = Metrics([])
        self._counts = Counts()
        for child in (self._engine, *self._workers):
            self._metrics.process_restarts.labels(_kind(child))  # 0 until one ends
        self._health = LOADING
        self._models: list[str] = []
        self._usage: dict[int, dict[str, list[int]]] = {}
        self._stopping = False
        self._stop: asyncio.Future[CannotServe] = (
            asyncio.get_running_loop().create_future()
        )

    async def run(self, started_s: float) -> int:
        """Serve until a stop signal, then drain the sessions; return the exit status.

        Raises:
            CannotServe: A process cannot do its part; says why.
        """
        signals: asyncio.Queue[None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, None)
        loop.add_signal_handler(signal.SIGUSR1, self._toggle_log_level)
        children = [self._engine, *self._workers]
        keeping = [asyncio.create_task(self._keep(child)) for child in children]
        announcing = asyncio.create_task(self._announce(started_s))
        signalled = asyncio.create_task(signals.get())
        waited: set[asyncio.Future[Any]] = {signalled, self._stop}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        self._stopping = True
        JOURNAL.info("stops: a signal came", extra=about("stopping"))
        ending = asyncio.create_task(self._end(keeping))
        again = asyncio.create_task(signals.get())
        await asyncio.wait({ending, again}, return_when=asyncio.FIRST_COMPLETED)
        for child in children:
            child.kill()
        for task in (ending, again, signalled, *keeping):
            task.cancel()
        await asyncio.gather(*keeping, ending, return_exceptions=True)
        JOURNAL.info("has stopped", extra=about("stopped"))
        if self._stop.done():
            raise self._stop.result()
        return 0

    async def _keep(self, child: Child) -> None:
        """Run a process, and the next one whenever it ends."""
        name, index = f"the {child.assignment.name}", child.assignment.index
        while not self._stopping:
            status = await child.run(partial(self._peer_of, child))
            self._usage.pop(index, None)
            self._counts.end(index)
            if index == ENGINE:
                self._health = LOADING
            self._tell_others(index, "gone", index)
            if self._stopping:
                return
            facts = about("process_ended", ended=name, status=status)
            LOG.warning("%s has ended with status %d", name, status, extra=facts)
            self._metrics.process_restarts.labels(_kind(child)).inc()
            if child.hopeless:
                self._give_up(f"{name} ends before it is ready; the log says why")
            await asyncio.sleep(child.pause_s)

    async def _end(self, keeping: list[asyncio.Task[None]]) -> None:
        """Drain the workers, then end the engine, which scores until then.

        A worker that is not up has no sessions, and may not answer for long: it still
        imports, or compiles.
        """
        for one in self._listening:
            one.close()
        serving = [worker for worker in self._workers if worker.up]
        for worker in self._workers:
            if not worker.up:
                worker.kill()
        drain_s = self._settings.drain_s + STOP_S if serving else STOP_S
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await ask_all(self._peers(serving), "drain")
                await asyncio.wait(keeping[1:])
        for worker in self._workers:
            worker.kill()
        for peer in self._peers([self._engine]):
            peer.tell("stop")
        await asyncio.wait(keeping, timeout=STOP_S)

    async def _announce(self, started_s: float) -> None:
        """Print once that the server is ready, or why it never will be."""
        await show_progress(lambda: self._health)
        if self._health.failed:
            tell("cannot_serve", self._health.reason, logging.ERROR)
            return
        await until(lambda: all(worker.up for worker in self._workers))
        tls = self._settings.tls_cert is not None
        say_ready(self._models, url(self._listening[0], tls=tls), started_s)

    def _toggle_log_level(self) -> None:
        """Change the level in every process, and in those that are started later."""
        level = toggle_level()
        children = [self._engine, *self._workers]
        for child in children:
            settings = replace(child.assignment.settings, log_level=level)
            child.assignment = replace(child.assignment, settings=settings)
        for peer in self._peers(children):
            peer.tell("log_level", level)

    def _peer_of(self, child: Child) -> Peer:
        index = child.assignment.index
        handlers: dict[str, Handler] = {
            **store_handlers(self._store),
            "issue_ticket": self._tickets.issue,
            "use_ticket": self._tickets.use,
            "ask_others": partial(self._ask_others, index),
            "metrics": partial(self._count, index),
            "cannot_serve": self._cannot_serve,
        }
        listeners: dict[str, Listener] = {
            "up": partial(self._come_up, child),
            "usage": partial(self._pass_usage_on, index),
            "counted": partial(self._counts.hear, index),
            "health": self._hear_health,
        }
        return Peer(handlers, listeners, _ignore)

    def _peers(self, children: list[Child]) -> list[Peer]:
        return [child.peer for child in children if child.peer is not None]

    # From here on, called by the processes.

    async def _ask_others(self, index: int, name: str, arguments: list[Any]) -> Any:
        asked = [one for one in self._workers if one.assignment.index != index]
        if name == "overview":
            asked.append(self._engine)
        return await ask_all(self._peers(asked), name, *arguments)

    async def _count(self, index: int) -> list[Families]:
        """Return what all have counted; the process that asks has told its part."""
        others = [one for one in self._workers if one.assignment.index != index]
        await ask_all(self._peers([*others, self._engine]), "tell_counts")
        return [*self._counts.all(), families_of(self._metrics.registry)]

    async def _cannot_serve(self, reason: str, status: int = 1) -> None:
        self._give_up(reason, status)

    def _give_up(self, reason: str, status: int = 1) -> None:
        if not self._stop.done():
            self._stop.set_result(CannotServe(reason, status))

    def _come_up(self, child: Child) -> None:
        child.up = True
        for index, usage in self._usage.items():
            if child.peer is not None and index != child.assignment.index:
                child.peer.tell("usage", index, usage)

    def _pass_usage_on(self, index: int, usage: dict[str, list[int]]) -> None:
        lasting = {holder: [0, 0, *each[2:]] for holder, each in usage.items()}
        self._usage.setdefault(index, {}).update(lasting)
        self._tell_others(index, "usage", index, usage)

    def _hear_health(self, plain: list[Any], models: list[str]) -> None:
        self._health = health_from_plain(plain)
        self._models = models
        self._engine.up = self._engine.up or self._health.ready

    def _tell_others(self, index: int, name: str, *arguments: Any) -> None:
        others = [one for one in self._workers if one.assignment.index != index]
        for peer in self._peers(others):
            peer.tell(name, *arguments)


async def supervise(
    settings: Settings,
    listening: list[socket.socket],
    compiled: Path,
    started_s: float,
) -> int:
    """Run a server of several processes; return the exit status.

    Args:
        settings: The server's.
        listening: Sockets that clients connect to.
        compiled: Folder that keeps what is compiled.
        started_s: When the start began, by `time.perf_counter`.

    Raises:
        CannotServe: A process cannot do its part; says why.
    """
    return_large_blocks()
    try:
        read_keys(settings)
    except ValueError as error:
        raise CannotServe(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        parts = (settings, listening, compiled, Path(folder))
        return await Supervisor(*parts).run(started_s)


def _kind(child: Child) -> str:
    return "engine" if child.assignment.index == ENGINE else "worker"


def _ignore() -> None:
    """Wait for the end of the process, which follows the end of its connection."""
