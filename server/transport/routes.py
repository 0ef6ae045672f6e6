"""The routes beside `/v1/classify`: models, sessions, tickets, health and metrics."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from saccade.server.engine.health import ModelHealth
from saccade.server.engine.model_registry import ServedModel
from saccade.server.protocol.errors import SessionDeleted
from saccade.server.sessions.registry import LiveSession
from saccade.server.transport.auth import TICKET_S
from saccade.server.transport.exposition import chosen
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.placement import ask_fleet
from saccade.server.transport.problems import GUARDED, Problem, problems
from saccade.server.transport.service import Service

SESSIONS: Final = GUARDED | problems(s422="a parameter is not valid")
ONE_SESSION: Final = SESSIONS | problems(
    s404="this key has no such session with a client here"
)


Fleetwide: TypeAlias = Annotated[
    bool, Query(description="whether the other servers of the fleet are asked too")
]


class ModelDescription(BaseModel):
    """The facts about a model that its clients may know."""

    model: str
    model_hash: str
    labels: list[str]
    sensor: list[int]
    tick_events: int


class ListedModel(ModelDescription):
    """A model, whether it is ready, and how exactly it computes.

    Attributes:
        state: `starting`, `ready`, `failed` or `stopped`.
        matmul_precision: The least that the device may multiply in; null before the
            model is verified.
        canary_error: The largest error of the model's stored scores, relative to the
            largest score.
    """

    state: str
    matmul_precision: str | None = None
    canary_error: float | None = None


class ModelList(BaseModel):
    """The served models."""

    models: list[ListedModel]


class SessionDescription(BaseModel):
    """The facts about a session that its key's holder may know; not its token.

    `replica` names the server of a fleet that the session's client is connected to.
    """

    session: str
    replica: str | None = None
    model: str
    model_hash: str
    events: int
    drained: bool


class SessionList(BaseModel):
    """The sessions of one key's holder."""

    sessions: list[SessionDescription]


class Ticket(BaseModel):
    """A ticket that opens one websocket, and for how many seconds it does."""

    ticket: str
    expires_s: float


class HealthReport(BaseModel):
    """The state of each model, and the reason where a probe fails."""

    status: str
    models: dict[str, str]
    reason: str


UNWELL: Final[dict[int | str, dict[str, Any]]] = {
    503: {"description": "no; says why", "model": HealthReport}
}


def describe(model: ServedModel) -> dict[str, Any]:
    """Return the fields of a model's `ModelDescription`."""
    return {
        "model": model.name,
        "model_hash": model.content_hash,
        "labels": list(model.labels),
        "sensor": model.sensor.to_list(),
        "tick_events": model.tick_events,
    }


def verified(health: ModelHealth) -> dict[str, Any]:
    """Return the fields that a `ListedModel` has beside its description."""
    precision, error = health.canary or (None, None)
    return {
        "state": health.state,
        "matmul_precision": precision,
        "canary_error": error,
    }


def model_routes(service: Service) -> APIRouter:
    """Return the route that lists the models."""
    router = APIRouter()

    @router.get("/v1/models", summary="List the models", responses=GUARDED)
    async def get_models() -> ModelList:
        health = service.engine.health.models
        return ModelList(
            models=[
                ListedModel(**describe(model), **verified(health[model.key]))
                for model in service.catalogue.current.values()
            ]
        )

    return router


def session_routes(service: Service) -> APIRouter:
    """Return the routes about sessions that have a client on this server."""
    router = APIRouter()

    @router.get("/v1/sessions", summary="List your sessions", responses=SESSIONS)
    async def get_sessions(request: Request, *, fleet: Fleetwide = True) -> SessionList:
        holder: str = request.scope.get(HOLDER, "")
        facts = described(service, holder) + await service.elsewhere.sessions(holder)
        if fleet:
            asked = await ask_fleet(service, request, "GET", "/v1/sessions")
            facts += [each for _, answer in asked for each in answer["sessions"]]
        return SessionList(sessions=[SessionDescription(**each) for each in facts])

    @router.get("/v1/sessions/{session}", summary="Look at one", responses=ONE_SESSION)
    async def get_session(
        request: Request, session: str, *, fleet: Fleetwide = True
    ) -> SessionDescription:
        for each in (await get_sessions(request, fleet=fleet)).sessions:
            if each.session == session:
                return each
        raise no_such_session(session)

    @router.delete(
        "/v1/sessions/{session}",
        summary="End one, for good",
        status_code=204,
        responses=ONE_SESSION,
    )
    async def delete_session(
        request: Request, session: str, *, fleet: Fleetwide = True
    ) -> Response:
        holder: str = request.scope.get(HOLDER, "")
        if not (
            delete(service, holder, session)
            or await service.elsewhere.delete(holder, session)
            or (fleet and await ask_fleet(service, request, "DELETE", path_of(session)))
        ):
            raise no_such_session(session)
        return Response(status_code=204)

    return router


def ticket_routes(service: Service) -> APIRouter:
    """Return the route that issues tickets."""
    router = APIRouter()

    @router.post(
        "/v1/tickets",
        summary="A ticket for one websocket of a web page",
        responses=GUARDED,
    )
    async def post_ticket(request: Request, response: Response) -> Ticket:
        response.headers["Cache-Control"] = "no-store"
        ticket = await service.tickets.issue(request.scope.get(HOLDER, ""))
        return Ticket(ticket=ticket, expires_s=TICKET_S)

    return router


def path_of(session: str) -> str:
    """Return the path of a session's route."""
    return f"/v1/sessions/{quote(session, safe='')}"


def described(service: Service, holder: str) -> list[dict[str, Any]]:
    """Return the fields of the `SessionDescription` of each session of a holder."""
    return [describe_session(live) for live in service.registry.held_by(holder)]


def describe_session(live: LiveSession) -> dict[str, Any]:
    """Return what a session's holder may know of it."""
    session = live.session
    return {
        "session": session.handle.session,
        "replica": session.handle.replica,
        "model": session.model.name,
        "model_hash": session.model.content_hash,
        "events": session.events_sent,
        "drained": session.drained,
    }


def delete(service: Service, holder: str, name: str) -> bool:
    """End a holder's session for good; return whether there was one of that name."""
    for live in service.registry.held_by(holder):
        if live.session.handle.session == name:
            live.sink.fail(SessionDeleted())
            service.registry.discard(live)
            return True
    return False


def no_such_session(name: str) -> Problem:
    """Return the answer about a session that the request's key did not open."""
    detail = "there is no such session with a client here"
    return Problem(404, "unknown_session", detail, field="session", value=name)


def probe_routes(service: Service) -> APIRouter:
    """Return the routes of health, readiness and metrics."""
    router = APIRouter()

    @router.get("/healthz", summary="Is the process well?", responses=UNWELL)
    async def get_health(response: Response) -> HealthReport:
        return report(service, response, well=not service.engine.health.failed)

    @router.get("/readyz", summary="May sessions be opened?", responses=UNWELL)
    async def get_readiness(response: Response) -> HealthReport:
        ready = service.engine.health.ready and not service.draining
        return report(service, response, well=ready)

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        responses=GUARDED,
        response_class=PlainTextResponse,
    )
    async def get_metrics(request: Request) -> Response:
        holder: str = request.scope.get(HOLDER, "")
        accept = request.headers.get("accept", "")
        form = chosen(accept, operator=service.keys.sees_all(holder))
        registry = service.metrics.registry
        content = await service.elsewhere.exposition(registry, form)
        return Response(content, headers={"Content-Type": form.media_type})

    return router


def report(service: Service, response: Response, *, well: bool) -> HealthReport:
    """Answer a probe with the state of each model; 503 where it fails.

    What serves and has concerns is `amber`, and well.
    """
    health = service.engine.health
    concerns = (*health.concerns, *service.background.concerns)
    response.status_code = 200 if well else 503
    reason = "the server is stopping" if service.draining else health.reason
    return HealthReport(
        status=("amber" if concerns else "ok") if well else "unavailable",
        models={
            model.name: health.models[model.key].state
            for model in service.catalogue.current.values()
        },
        reason="; ".join([*([reason] if reason else []), *concerns]),
    )
