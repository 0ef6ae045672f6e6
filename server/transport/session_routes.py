"""`/v1/sessions`, `/v1/tickets`: a key's holder lets a page in, looks, and ends one."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from saccade.server.protocol.resume_errors import SessionDeleted
from saccade.server.sessions.keeper import Keeper
from saccade.server.transport.description import GUARDED, problems
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.problems import Problem
from saccade.server.transport.service import Service
from saccade.server.transport.tickets import TICKET_S

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


def find(service: Service, request: Request, name: str) -> Keeper:
    """Return the session of that name, if it is of whoever asks.

    Raises:
        Problem: It is not; whether it is somebody else's is not told.
    """
    for keeper in service.roster.held_by(request.scope.get(HOLDER, "")):
        if keeper.session.grant.session == name:
            return keeper
    detail = "there is no such session with a client here"
    raise Problem(404, "unknown_session", detail, field="session", value=name)


def told(keeper: Keeper) -> dict[str, Any]:
    """Say what its holder may know of a session; its token is not among that."""
    session = keeper.session
    return {
        "session": session.grant.session,
        "model": session.model.name,
        "model_hash": session.model.content_hash,
        "events": session.events_sent,
        "drained": session.drained,
    }
