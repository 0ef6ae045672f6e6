"""`GET /v1/overview`: what an operator wants to see of the whole server at one look.

Each process samples its own counters once a second and answers with what has changed
over the last seconds; the process that is asked adds up the answers of all.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

import saccade
from saccade.server.engine.outputs import DeviceUse
from saccade.server.sessions.registry import LiveSession
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.problems import GUARDED
from saccade.server.transport.routes import ListedModel, describe
from saccade.server.transport.sampler import merged, percentile
from saccade.server.transport.service import Service


class LatencyReport(BaseModel):
    """Time from an event's arrival to its score; null where none was scored lately."""

    p50: float | None
    p99: float | None


class Traffic(BaseModel):
    """What went through in the last seconds."""

    sessions: int
    events_per_s: float
    results_per_s: float
    dropped_per_s: float
    latency_ms: LatencyReport


class ModelOverview(ListedModel, Traffic):
    """One model: what it is, how it is, and what it does."""

    slots_used: int
    queue_ticks: int
    swapped_out: int


class SessionOverview(BaseModel):
    """One session with a client; `holder` is the name of its key."""

    session: str
    model: str
    holder: str
    sensor: list[int]
    events: int


class DeviceLoad(BaseModel):
    """One device that runs models; `name` is as `--device` and the metrics have it."""

    name: str
    slots_used: int
    queue_ticks: int
    events: int


class DeviceOverview(BaseModel):
    """The devices of one kind."""

    platform: str
    kind: str
    count: int


class HealthOverview(BaseModel):
    """`ok`, `amber` (serves, and something is wrong) or `unavailable`; and why."""

    status: str
    reason: str


class Overview(BaseModel):
    """The whole server. `operator` says whether the sessions are those of all keys."""

    version: str
    uptime_s: float
    workers: int
    devices: list[DeviceOverview]
    engine_devices: list[DeviceLoad]
    health: HealthOverview
    watching: bool
    operator: bool
    totals: Traffic
    models: list[ModelOverview]
    sessions: list[SessionOverview]


def own_part(service: Service, holder: str, *, everyone: bool) -> dict[str, Any]:
    """Return this process's part of the overview, as msgpack takes it.

    Args:
        service: The process's service.
        holder: Whose sessions are described.
        everyone: Whether those of all others are too.
    """
    registry = service.registry
    seen = registry.all() if everyone else registry.held_by(holder)
    return {
        "devices": devices_here(),
        "engine_devices": loads_of(service.engine.use),
        "models": {
            name: service.sampler.rates(name) for name in service.catalogue.current
        },
        "sessions": [_describe(live) for live in seen],
    }


def loads_of(use: Iterable[DeviceUse]) -> list[dict[str, Any]]:
    """Return what each device does, as `DeviceLoad` has it."""
    return [
        {
            "name": one.name,
            "slots_used": one.slots_used,
            "queue_ticks": one.ticks_waiting,
            "events": one.events,
        }
        for one in use
    ]


def devices_here() -> list[dict[str, Any]]:
    """Return this process's devices by kind; none where it has not loaded JAX."""
    jax = sys.modules.get("jax")
    kinds = Counter(
        (device.platform, device.device_kind)
        for device in (jax.local_devices() if jax else ())
    )
    return [
        {"platform": platform, "kind": kind, "count": count}
        for (platform, kind), count in kinds.items()
    ]


def overview_routes(service: Service) -> APIRouter:
    """Return the route of the overview."""
    router = APIRouter()

    @router.get("/v1/overview", summary="The whole server", responses=GUARDED)
    async def get_overview(request: Request) -> Overview:
        holder: str = request.scope.get(HOLDER, "")
        everyone = service.keys.sees_all(holder)
        own = own_part(service, holder, everyone=everyone)
        others = await service.elsewhere.overview(holder, everyone=everyone)
        return compose(service, [own, *others], everyone=everyone)

    return router


def compose(
    service: Service, parts: list[dict[str, Any]], *, everyone: bool
) -> Overview:
    """Add up the parts of all processes."""
    health = service.engine.health
    models = []
    for model in service.catalogue.current.values():
        rates = merged([part.get("models", {}).get(model.name) for part in parts])
        state = health.models[model.key].state
        models.append(ModelOverview(**describe(model), state=state, **_numbers(rates)))
    known = [model.name for model in service.catalogue.current.values()]
    total = merged([part.get("models", {}).get(n) for part in parts for n in known])
    settings = service.settings
    return Overview(
        version=saccade.__version__,
        uptime_s=service.uptime_s,
        workers=settings.workers,
        devices=[DeviceOverview(**each) for part in parts for each in part["devices"]],
        engine_devices=[
            DeviceLoad(**each)
            for part in parts
            for each in part.get("engine_devices", ())
        ],
        health=_health(service),
        watching=not settings.no_watch,
        operator=everyone,
        totals=Traffic(**_numbers(total)),
        models=models,
        sessions=[
            SessionOverview(**each)
            for part in parts
            for each in part.get("sessions", ())
        ],
    )


def _numbers(rates: dict[str, Any]) -> dict[str, Any]:
    names = (
        "sessions", "events_per_s", "results_per_s", "dropped_per_s", "slots_used",
        "queue_ticks", "swapped_out",
    )  # fmt: skip
    times = {"p50": 0.5, "p99": 0.99}
    found = {name: percentile(rates["latencies"], part) for name, part in times.items()}
    latency = {n: None if s is None else round(1000 * s, 2) for n, s in found.items()}
    return {name: rates.get(name, 0) for name in names} | {"latency_ms": latency}


def _health(service: Service) -> HealthOverview:
    health = service.engine.health
    concerns = (*health.concerns, *service.background.concerns)
    ready = health.ready and not service.draining
    reasons = [
        *(["the server is stopping"] if service.draining else []),
        *([health.reason] if health.reason else []),
        *concerns,
    ]
    status = ("amber" if concerns else "ok") if ready else "unavailable"
    return HealthOverview(status=status, reason="; ".join(reasons))


def _describe(live: LiveSession) -> dict[str, Any]:
    session = live.session
    sensor = session.opening.sensor or session.model.sensor
    return {
        "session": session.handle.session,
        "model": session.model.name,
        "holder": session.handle.holder,
        "sensor": sensor.to_list(),
        "events": session.events_sent,
    }
