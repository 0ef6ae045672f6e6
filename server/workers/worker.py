"""A worker process: sockets, protocol and sessions, with the engine elsewhere."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import uvicorn

from saccade.server.app import (
    Shared,
    assemble,
    backlog_events,
    create_app,
    create_store,
    join_fleet,
    leave_fleet,
    trace,
)
from saccade.server.engine.client import EngineClient
from saccade.server.engine.errors import EngineError
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.model_registry import Catalogue
from saccade.server.event_loop import freeze_start, run_loop
from saccade.server.fleet.report import Usage
from saccade.server.logs import COUNTING, PERIOD_S, set_level, write_left_out
from saccade.server.protocol.errors import TakenOver
from saccade.server.serving import RECONNECT_AFTER_MS, configuration, until
from saccade.server.sessions.registry import POLL_S, SAVING
from saccade.server.sessions.stores.store import Store, StoreUnavailable
from saccade.server.sessions.watch_desk import TooManyWatchers, WatchRequest
from saccade.server.starting import Starting
from saccade.server.telemetry.spans import open_telemetry
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.overview import own_part
from saccade.server.transport.routes import delete, described
from saccade.server.transport.sampler import SAMPLE_S, SAMPLING
from saccade.server.transport.service import Service
from saccade.server.workers.assignment import Assignment, end_with_supervisor
from saccade.server.workers.link import ModelFacts, RemoteEngine, RemoteSpans
from saccade.server.workers.merged_metrics import families_of
from saccade.server.workers.peer import Handler, Listener, Peer
from saccade.server.workers.shared import OtherWorkers, RemoteStore, RemoteTickets

USAGE_S: Final = 0.05
REPORTING: Final = "the report of what keys use"
"""Time between two reports of what keys have used; their rates are shared so often."""


class Worker:
    """One worker, from its start until it is drained.

    Args:
        assignment: Its number and its share.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._settings = assignment.settings
        self._front = Starting()
        self._server = uvicorn.Server(configuration(self._front, self._settings))
        self._service: Service | None = None
        handlers: dict[str, Handler] = {
            "sessions": self._sessions,
            "delete": self._delete,
            "take_over": self._take_over,
            "watch": self._watch,
            "stop_watch": self._stop_watch,
            "overview": self._overview,
            "tell_counts": self._tell_counts,
            "drain": self._drain,
        }
        listeners: dict[str, Listener] = {
            "usage": self._absorb,
            "gone": self._forget,
            "log_level": set_level,
        }
        self._supervisor = Peer(handlers, listeners, end_with_supervisor)

    async def run(self, supervisor: socket.socket) -> int:
        """Serve until the supervisor has the worker drained; return the status."""
        await self._supervisor.connect(supervisor)
        sockets = [socket.socket(fileno=file) for file in self._assignment.listening]
        serving = asyncio.create_task(self._server.serve(sockets))
        await until(lambda: self._server.started)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # uvicorn had set its own
        beginning = asyncio.create_task(self._begin(serving))
        await asyncio.wait({serving, beginning}, return_when=asyncio.FIRST_COMPLETED)
        if beginning.done():
            await beginning
        else:
            beginning.cancel()
        await serving
        return 0

    async def _begin(self, serving: asyncio.Task[None]) -> None:
        """Serve sessions as soon as the engine process has loaded its models."""
        engine = RemoteEngine(self._assignment.sockets, self._assignment.index)
        facts = await engine.connect()
        try:
            self._service = service = self._assemble(engine, facts)
        except (StoreUnavailable, ValueError) as error:
            await self._supervisor.call("cannot_serve", str(error))
            return
        async with _running(service, engine):
            engine.on_lost = service.disconnect_all
            service.background.repeat(
                REPORTING, USAGE_S, partial(self._report_usage, engine)
            )
            service.quotas.changed = self._tell_usage
            self._front.app = create_app(service)
            freeze_start()
            self._supervisor.tell("up")
            await asyncio.wait({serving})

    def _assemble(self, engine: RemoteEngine, facts: list[ModelFacts]) -> Service:
        settings = self._settings
        current = [each for each in facts if each.current]
        catalogue = Catalogue(each.served() for each in current)
        metrics = Metrics(catalogue.current.values())
        frontend = Frontend(
            engine,
            [each.shape for each in current],
            self._assignment.slots,
            backlog_events(settings),
            engine.new_arena,
            first=self._assignment.index,
        )
        streams = EngineClient(frontend, self._assignment.sessions)
        engine.streams = streams
        engine.on_models = ModelChanges(catalogue, frontend, metrics).follow
        engine.on_models(facts)
        metrics.watch(engine)
        metrics.watch_streams(streams)
        slots = sum(map(len, self._assignment.slots))
        metrics.set_limits(sessions=self._assignment.sessions, slots=slots)
        shared = Shared(
            self._store(),
            RemoteTickets(self._supervisor),
            OtherWorkers(self._supervisor),
            self._assignment.index,
        )
        service = assemble(settings, catalogue, engine, streams, metrics, shared)
        telemetry = open_telemetry(settings, self._assignment.name)
        trace(service, telemetry, RemoteSpans(engine))
        return service

    def _store(self) -> Store:
        if self._settings.store == "memory":
            return RemoteStore(self._supervisor)
        return create_store(self._settings)

    async def _report_usage(self, engine: RemoteEngine) -> None:
        self._tell_usage()
        engine.report_streams()

    def _tell_usage(self) -> None:
        if self._service is not None and (usage := self._service.quotas.take_usage()):
            plain = {holder: list(each) for holder, each in usage.items()}
            self._supervisor.tell("usage", plain)

    # From here on, called by the supervisor.

    def _absorb(self, process: int, usage: dict[str, list[int]]) -> None:
        if self._service is not None:
            each = {holder: Usage(*numbers) for holder, numbers in usage.items()}
            self._service.quotas.absorb(process, each)

    def _forget(self, process: int) -> None:
        if self._service is not None:
            self._service.quotas.forget(process)

    async def _sessions(self, holder: str) -> list[dict[str, Any]]:
        return [] if self._service is None else described(self._service, holder)

    async def _delete(self, holder: str, name: str) -> bool:
        return self._service is not None and delete(self._service, holder, name)

    async def _take_over(self, key: str, holder: str) -> bool:
        """End a session's connection, so that another worker may resume it."""
        if self._service is None:
            return False
        live = self._service.registry.live(key)
        if live is None or live.session.handle.holder != holder:
            return False
        live.sink.fail(TakenOver())
        await asyncio.shield(self._service.registry.detach(live))
        self._tell_usage()
        return True

    async def _watch(self, name: str, request: list[Any], first: bool) -> Any:  # noqa: FBT001
        """Collect for another worker's watcher; a None inside says: no room."""
        if self._service is None:
            return None
        asked = WatchRequest(*request)
        try:
            found = await self._service.desk.answer(name, asked, first=first)
        except TooManyWatchers:
            return [None, True]
        return None if found is None else list(found)

    async def _stop_watch(self, name: str) -> None:
        if self._service is not None:
            self._service.desk.stop(name)

    async def _overview(self, holder: str, everyone: bool) -> dict[str, Any]:  # noqa: FBT001
        if self._service is None:
            return {"devices": []}
        return own_part(self._service, holder, everyone=everyone)

    async def _tell_counts(self) -> None:
        """Tell what is counted here; it is known when the answer of this call comes."""
        if self._service is not None:
            counted = families_of(self._service.metrics.registry)
            self._supervisor.tell("counted", counted)

    async def _drain(self) -> None:
        if self._service is not None:
            await self._service.drain(RECONNECT_AFTER_MS)
        self._server.should_exit = True


class ModelChanges:
    """Follows the engine process's models: new versions come, old ones go.

    Args:
        catalogue: The worker's models.
        frontend: Leases their slots.
        metrics: Counts by model.
    """

    def __init__(
        self, catalogue: Catalogue, frontend: Frontend, metrics: Metrics
    ) -> None:
        self._catalogue = catalogue
        self._frontend = frontend
        self._metrics = metrics

    def follow(self, facts: list[ModelFacts]) -> None:
        """Serve these models from now on."""
        for each in sorted(facts, key=lambda one: one.current):
            known = self._catalogue.version(each.name, each.content_hash)
            model = known or each.served()
            if known is None:
                self._metrics.add(model)
                self._frontend.add_model(each.shape)
            if self._catalogue.current.get(model.name) is not model:
                self._catalogue.promote(model)
        kept = {each.content_hash for each in facts}
        for model in self._catalogue.older:
            if model.content_hash not in kept:
                self._catalogue.drop(model)
                with suppress(EngineError):  # a session on it has just begun: it fails
                    self._frontend.remove_model(model.key)


@asynccontextmanager
async def _running(service: Service, engine: RemoteEngine) -> AsyncIterator[None]:
    """Run what saves sessions, and the link to the engine, as long as it lasts."""
    service.streams.start(asyncio.get_running_loop())
    service.background.repeat(SAVING, POLL_S, service.registry.look)
    service.background.repeat(SAMPLING, SAMPLE_S, service.sampler.look)
    service.telemetry.repeat(service.background, service.metrics.registry)
    service.background.repeat(COUNTING, PERIOD_S, write_left_out)
    await join_fleet(service)
    yield
    service.background.stop()
    await leave_fleet(service)
    await service.close_uploads()
    await service.registry.close()
    engine.close()
    await service.telemetry.close()


def main(assignment: Assignment, supervisor: socket.socket) -> int:
    """Run a worker process."""
    return run_loop(_run(assignment, supervisor))


async def _run(assignment: Assignment, supervisor: socket.socket) -> int:
    return await Worker(assignment).run(supervisor)
