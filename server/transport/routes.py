"""`/v1/models`: what there is to ask."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from saccade.server.engine.model_registry import ServedModel
from saccade.server.protocol.errors import SessionDeleted
from saccade.server.sessions.snapshot_writer import SnapshotWriter
from saccade.server.transport.auth import TICKET_S
from saccade.server.transport.description import GUARDED, UNWELL, problems
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.problems import Problem
from saccade.server.transport.service import Service


def model_routes(service: Service) -> APIRouter:
    """Return the route that lists the models."""
    router = APIRouter()

    @router.get("/v1/models", summary="List the models", responses=GUARDED)
    async def get_models() -> Response:
        health = service.engine.health.models
        models = [
            {**describe(model), "state": health[model.key].state}
            for model in service.catalogue.current.values()
        ]
        return JSONResponse({"models": models})

    return router


def describe(model: ServedModel) -> dict[str, Any]:
    """Say what clients may know of a model."""
    return {
        "model": model.name,
        "model_hash": model.content_hash,
        "labels": list(model.labels),
        "sensor": model.sensor.to_list(),
        "tick_events": model.tick_events,
    }


# >>> merged from server.transport.session_routes
# >>> """`/v1/sessions`, `/v1/tickets`: a key's holder lets a page in, looks, and ends one."""

ONE: Final = GUARDED | problems(s404="this key has no such session with a client here")


def session_routes(service: Service) -> APIRouter:
    """Return the routes about sessions that have a client on this server."""
    router = APIRouter()

    @router.get("/v1/sessions", summary="List your sessions", responses=GUARDED)
    async def get_sessions(request: Request) -> Response:
        own = service.roster.held_by(request.scope.get(HOLDER, ""))
        return JSONResponse({"sessions": [told(keeper) for keeper in own]})

    @router.get("/v1/sessions/{session}", summary="Look at one", responses=ONE)
    async def get_session(request: Request, session: str) -> Response:
        return JSONResponse(told(find(service, request, session)))

    @router.delete(
        "/v1/sessions/{session}",
        summary="End one, for good",
        status_code=204,
        responses=ONE,
    )
    async def delete_session(request: Request, session: str) -> Response:
        keeper = find(service, request, session)
        keeper.carrier.fail(SessionDeleted())
        service.roster.discard(keeper)
        return Response(status_code=204)

    @router.post(
        "/v1/tickets",
        summary="A ticket for one websocket of a web page",
        responses=GUARDED,
    )
    async def post_ticket(request: Request) -> Response:
        ticket = service.tickets.issue(request.scope.get(HOLDER, ""))
        return JSONResponse(
            {"ticket": ticket, "expires_s": TICKET_S},
            headers={"Cache-Control": "no-store"},
        )

    return router


def find(service: Service, request: Request, name: str) -> SnapshotWriter:
    """Return the session of that name, if it is of whoever asks.

    Raises:
        Problem: It is not; whether it is somebody else's is not told.
    """
    for keeper in service.roster.held_by(request.scope.get(HOLDER, "")):
        if keeper.session.grant.session == name:
            return keeper
    detail = "there is no such session with a client here"
    raise Problem(404, "unknown_session", detail, field="session", value=name)


def told(keeper: SnapshotWriter) -> dict[str, Any]:
    """Say what its holder may know of a session; its token is not among that."""
    session = keeper.session
    return {
        "session": session.grant.session,
        "model": session.model.name,
        "model_hash": session.model.content_hash,
        "events": session.events_sent,
        "drained": session.drained,
    }


# >>> merged from server.transport.probe_routes
# >>> """What watches the server asks: is it well, is it ready, what has it done?"""


def probe_routes(service: Service) -> APIRouter:
    """Return the routes of health, readiness and metrics."""
    router = APIRouter()

    @router.get("/healthz", summary="Is the process well?", responses=UNWELL)
    async def get_health() -> Response:
        return report(service, well=not service.engine.health.failed)

    @router.get("/readyz", summary="May sessions be opened?", responses=UNWELL)
    async def get_readiness() -> Response:
        ready = service.engine.health.ready and not service.leaving
        return report(service, well=ready)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        responses=GUARDED,
        response_class=PlainTextResponse,
    )
    async def get_metrics() -> Response:
        return Response(
            service.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return router


def report(service: Service, *, well: bool) -> Response:
    """Answer a probe, with what each model does."""
    health = service.engine.health
    reason = "the server is stopping" if service.leaving else health.reason
    current = service.catalogue.current.values()
    models = {model.name: health.models[model.key].state for model in current}
    document = {"status": "ok" if well else "unavailable", "models": models}
    return JSONResponse({**document, "reason": reason}, 200 if well else 503)
