"""The application: builds engine, store and routes from settings. Wiring only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from fastapi import FastAPI

from saccade.server.engine.client import EngineClient
from saccade.server.engine.health import HasHealth
from saccade.server.engine.leases import Lease
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.engine.outputs import Observer
from saccade.server.engine.scheduler import Bucket
from saccade.server.fleet.fleet import BEATING, HEARTBEAT_S, Fleet
from saccade.server.logs import COUNTING, PERIOD_S, write_left_out
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.ingest import prepare_ingest
from saccade.server.sessions.registry import POLL_S, SAVING, SessionRegistry
from saccade.server.sessions.session import Session
from saccade.server.sessions.snapshot_writer import SnapshotPolicy
from saccade.server.sessions.stores.memory import MemoryStore
from saccade.server.sessions.stores.sqlite import SqliteStore
from saccade.server.sessions.stores.store import Store, StoreUnavailable
from saccade.server.settings import Settings, in_fleet, is_loopback
from saccade.server.telemetry.spans import EngineSpans, Telemetry, open_telemetry
from saccade.server.transport.auth import Keys, TicketOffice, Tickets
from saccade.server.transport.classify import classify_routes
from saccade.server.transport.elsewhere import Alone, Elsewhere
from saccade.server.transport.guard import App, Guard
from saccade.server.transport.http_metrics import Measured
from saccade.server.transport.kserve import kserve_routes
from saccade.server.transport.metrics import Metrics
from saccade.server.transport.moving import REBALANCE_S, REBALANCING, Rebalancer
from saccade.server.transport.overview import overview_routes
from saccade.server.transport.placement import own_report, placement_routes
from saccade.server.transport.problems import answer_errors
from saccade.server.transport.rate_limits import KeyLimits, KeyQuotas
from saccade.server.transport.routes import (
    model_routes,
    probe_routes,
    session_routes,
    ticket_routes,
)
from saccade.server.transport.sampler import SAMPLE_S, SAMPLING
from saccade.server.transport.service import Service
from saccade.server.transport.watch import watch_routes
from saccade.server.transport.websocket import stream_routes

if TYPE_CHECKING:
    from saccade.server.engine.engine import Engine

ROUTES: Final = (
    stream_routes,
    classify_routes,
    kserve_routes,
    model_routes,
    session_routes,
    ticket_routes,
    placement_routes,
    watch_routes,
    overview_routes,
    probe_routes,
)


def create_service(settings: Settings, models: Sequence[ServedModel]) -> Service:
    """Build the engine and what its connections share; nothing runs yet.

    Raises:
        StoreUnavailable: The store that the settings name cannot be opened.
        ValueError: The keys cannot be read, or there are none where they are needed.
    """
    metrics = Metrics(models)
    telemetry = open_telemetry(settings, "server")
    spans = telemetry.engine_spans()
    engine = create_engine(settings, models, spans.observed(metrics))
    streams = EngineClient(engine.frontend, settings.sessions)
    metrics.watch(engine)
    metrics.watch_devices(lambda: engine.use)
    metrics.watch_streams(streams)
    slots = settings.slots * len(engine.devices.members)
    metrics.set_limits(sessions=settings.sessions, slots=slots)
    shared = Shared(create_store(settings), create_tickets(settings), Alone())
    service = assemble(settings, Catalogue(models), engine, streams, metrics, shared)
    trace(service, telemetry, spans)
    return service


def trace(service: Service, telemetry: Telemetry, spans: EngineSpans) -> None:
    """Have a process export what it does, before its engine is started.

    Args:
        service: The process's.
        telemetry: What it exports.
        spans: Of the engine, here or in another process.
    """

    def session_of(lease: Lease) -> str | None:
        handler = service.streams.handler_of(lease)
        return handler.handle.session if isinstance(handler, Session) else None

    service.telemetry = telemetry
    frontend = service.streams.frontend
    frontend.link = telemetry.link(frontend.link, session_of, spans)


def create_engine(
    settings: Settings, models: Sequence[ServedModel], observer: Observer
) -> Engine:
    """Build the engine that scores on this process's devices."""
    from saccade.server.engine.accelerators import find_devices  # loads JAX
    from saccade.server.engine.engine import Engine

    shapes = settings.buckets
    return Engine(
        [model.servable for model in models],
        slots=settings.slots,
        buckets=None if shapes is None else tuple(Bucket(*each) for each in shapes),
        backlog_events=backlog_events(settings),
        observer=observer,
        devices=find_devices(settings.device),
    )


class Shared(NamedTuple):
    """What all processes of a server have in common.

    Attributes:
        store: Keeps sessions without a client.
        tickets: Issues and takes tickets.
        elsewhere: The other processes.
        part: This process's number among them.
    """

    store: Store
    tickets: TicketOffice
    elsewhere: Elsewhere
    part: int = 0


def assemble(
    settings: Settings,
    catalogue: Catalogue,
    engine: HasHealth,
    streams: EngineClient,
    metrics: Metrics,
    shared: Shared,
) -> Service:
    """Build what the connections of one process share.

    Raises:
        ValueError: The keys cannot be read, or there are none where they are needed.
    """
    prepare_ingest()  # before the first session, whose events would wait for it
    policy = SnapshotPolicy(
        settings.snapshot_s,
        settings.snapshot_events,
        ttl_s=settings.session_ttl_s,
        lease_s=settings.lease_s,
    )
    key_limits = key_limits_of(settings)
    registry = SessionRegistry(streams, catalogue, shared.store, policy, metrics)
    registry.replica = settings.replica if in_fleet(settings) else None
    service = Service(
        settings,
        catalogue,
        engine,
        streams,
        registry,
        metrics,
        limits_of(settings),
        read_keys(settings),
        KeyQuotas(key_limits),
        shared.tickets,
        shared.elsewhere,
        shared.part,
    )
    service.fleet = create_fleet(service)
    metrics.watch_models(catalogue, engine)
    metrics.draining.set_function(lambda: float(service.draining))
    if settings.tls_cert is not None:
        metrics.watch_certificate(settings.tls_cert)
    return service


def create_fleet(service: Service) -> Fleet | None:
    """Return the process's place in the fleet; None where the server is alone."""
    if not in_fleet(service.settings):
        return None
    from saccade.server.fleet.redis import RedisDirectory

    directory = RedisDirectory(service.settings.store_url)
    return Fleet(directory, partial(own_report, service), service.quotas)


def read_keys(settings: Settings) -> Keys:
    """Return the keys that open the server.

    Raises:
        ValueError: They cannot be read, or there are none where they are needed.
    """
    keys = Keys.read(settings.keys_file, settings.keys)
    if not (keys or settings.insecure or is_loopback(settings.host)):
        raise ValueError(f"there is no key in {settings.keys_file}")
    return keys


def backlog_events(settings: Settings) -> int:
    """Return how many events of one session may wait: two windows and a frame."""
    return 3 * limits_of(settings).window_events


def key_limits_of(settings: Settings) -> KeyLimits:
    """Return the most that one key may use."""
    return KeyLimits(
        sessions=settings.key_sessions,
        requests=settings.key_requests,
        events_per_s=settings.key_events_per_s,
        bytes_per_s=settings.key_bytes_per_s,
    )


def limits_of(settings: Settings) -> Limits:
    """Return the most that one session may have under way."""
    limits = Limits(
        max_frame_bytes=settings.max_frame_bytes,
        window_events=settings.window_events,
        window_bytes=settings.window_bytes,
    )
    return key_limits_of(settings).within(limits)


def create_store(settings: Settings) -> Store:
    """Open the store that keeps sessions without a client.

    Raises:
        StoreUnavailable: The store does not answer, or its package is missing.
    """
    if settings.snapshot_s == 0:
        return MemoryStore()  # stays empty
    match settings.store:
        case "memory":
            return MemoryStore()
        case "sqlite":
            return SqliteStore(settings.store_path)
        case "redis":
            try:
                from saccade.server.sessions.stores.redis import RedisStore
            except ModuleNotFoundError:
                message = "pip install 'saccade[redis]' brings it"
                raise StoreUnavailable(message) from None
            return RedisStore(settings.store_url)


def create_tickets(settings: Settings) -> TicketOffice:
    """Return what issues tickets: in a fleet, such as every server takes."""
    if not in_fleet(settings):
        return Tickets()
    from saccade.server.transport.redis_tickets import RedisTickets

    return RedisTickets(settings.store_url)


def create_app(service: Service) -> App:
    """Put routes and a guard around a service; the engine starts with the app."""
    routes = create_routes(service)
    guarded = Guard(
        service.telemetry.requests(routes),
        service.keys,
        service.tickets,
        service.settings.origins,
        service.metrics.count_refusal,
    )
    return Measured(guarded, service.metrics.requests, routes.state.templates)


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """Run the engine, and what saves and reloads, as long as the context lasts.

    The engine is this process's own.
    """
    from saccade.server.engine.engine import Engine
    from saccade.server.reloading import RELOADING, Reloading

    assert isinstance(service.engine, Engine)
    service.streams.start(asyncio.get_running_loop())
    service.background.repeat(SAVING, POLL_S, service.registry.look)
    service.background.repeat(SAMPLING, SAMPLE_S, service.sampler.look)
    service.telemetry.repeat(service.background, service.metrics.registry)
    service.background.repeat(COUNTING, PERIOD_S, write_left_out)
    await join_fleet(service)
    if service.settings.reload_s > 0:
        reloading = Reloading(
            service.catalogue,
            service.engine,
            service.metrics,
            service.streams.open_streams,
            service.settings.session_ttl_s,
        )
        service.background.repeat(RELOADING, service.settings.reload_s, reloading.look)
    yield
    service.background.stop()
    await leave_fleet(service)
    await service.close_uploads()
    await service.registry.close()
    await asyncio.to_thread(service.engine.stop)
    await service.telemetry.close()


async def join_fleet(service: Service) -> None:
    """Report this process to the fleet from now on, if there is one."""
    if service.fleet is None:
        return
    await service.fleet.beat()
    service.background.repeat(BEATING, HEARTBEAT_S, service.fleet.beat)
    if service.settings.rebalance:
        look = Rebalancer(service).look
        service.background.repeat(REBALANCING, REBALANCE_S, look)


async def leave_fleet(service: Service) -> None:
    """Tell the fleet that this process has stopped."""
    if service.fleet is not None:
        await service.fleet.leave()


def create_routes(service: Service) -> FastAPI:
    """Put the routes around a service."""
    app = FastAPI(title="Saccade", lifespan=lambda _: running(service))
    app.state.templates = [getattr(route, "path", "") for route in app.routes]
    for routes in ROUTES:
        router = routes(service)
        app.include_router(router)
        app.state.templates += [getattr(route, "path", "") for route in router.routes]
    answer_errors(app, service.metrics.count_refusal)
    return app
