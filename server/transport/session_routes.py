"""`/v1/sessions`: a key's holder looks at its sessions, and ends one."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from server.protocol.resume_errors import SessionDeleted
from server.sessions.keeper import Keeper
from server.transport.description import GUARDED, problems
from server.transport.guard import HOLDER
from server.transport.problems import Problem
from server.transport.service import Service

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
