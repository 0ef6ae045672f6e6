"""`POST /v1/sessions`: where a session is to be opened; and this process's heartbeat.

The server that is asked chooses; the client then connects to the chosen one directly,
so that no event passes through two servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from saccade.server.fleet.calls import ask_replicas
from saccade.server.fleet.fleet import HEARTBEAT_S
from saccade.server.fleet.placement import Unplaced
from saccade.server.fleet.report import ModelLoad, Replica, Report
from saccade.server.protocol.errors import ProtocolError, UnknownModel
from saccade.server.transport.problems import GUARDED, Problem, from_protocol, problems
from saccade.server.transport.sampler import percentile
from saccade.server.transport.service import Service

EXPIRES_S: Final = 2 * HEARTBEAT_S
"""For how long a placement counts where it was made."""
LAG_PART: Final = 0.9
"""The part of all latencies that the reported lag is not below."""
MOST_SEEDS: Final = 8
PLACED: Final = GUARDED | problems(
    s400="the body is not JSON",
    s404="no server has such a model",
    s422="the body is no request for a session",
    s503="no server has room now; Retry-After says when to ask again",
)


class SessionRequest(BaseModel):
    """A session to be placed: of which model, and where the client was in vain."""

    model: str = Field(examples=["motions"])
    unreachable: list[str] = Field(default=[], max_length=MOST_SEEDS)


class PlacedSession(BaseModel):
    """Where to open the session: connect there within `expires_s`.

    `replica` is null where this server is alone: connect to it as it was asked.
    `others` are servers that can be asked in place of this one.
    """

    url: str
    replica: str | None
    model: str
    expires_s: float
    others: list[str]


def placement_routes(service: Service) -> APIRouter:
    """Return the route that places sessions."""
    router = APIRouter()

    @router.post("/v1/sessions", summary="Where to open a session", responses=PLACED)
    async def post_session(request: Request, asked: SessionRequest) -> PlacedSession:
        try:
            if service.fleet is None or not service.settings.advertise:
                service.model(asked.model)
                return alone(request, asked.model)
            chosen = place(service, asked.model, asked.unreachable)
        except ProtocolError as error:
            raise from_protocol(error) from error
        replicas = service.fleet.replicas
        others = [one.url for one in replicas if one.url and one.name != chosen.name]
        return PlacedSession(
            url=chosen.url,
            replica=chosen.name,
            model=asked.model,
            expires_s=EXPIRES_S,
            others=others[:MOST_SEEDS],
        )

    return router


def alone(request: Request, model: str) -> PlacedSession:
    """Return the placement of a server that has no fleet: where it was asked."""
    url = str(request.base_url).rstrip("/")
    return PlacedSession(
        url=url, replica=None, model=model, expires_s=EXPIRES_S, others=[]
    )


def place(service: Service, model: str, unreachable: Sequence[str] = ()) -> Replica:
    """Return the replica for a session of a model.

    Args:
        service: The process's service, in a fleet.
        model: The model.
        unreachable: Addresses that the client could not reach just now: another
            replica is preferred, before the fleet has noticed.

    Raises:
        UnknownModel: No replica has the model.
        Problem: None has room for it now.
    """
    assert service.fleet is not None
    try:
        return service.fleet.place(model, unreachable)
    except Unplaced as error:
        if not error.known:
            raise UnknownModel(model, error.names) from None
        code = "slots_exhausted" if error.full else "not_ready"
        raise Problem(503, code, str(error), retry_after_s=HEARTBEAT_S) from None


def own_report(service: Service) -> Report:
    """Return this process's heartbeat as of now."""
    settings = service.settings
    return Report(
        replica=settings.replica,
        part=service.part,
        url=settings.advertise,
        draining=service.draining,
        models=own_loads(service),
        keys=service.quotas.usage,
    )


def own_loads(service: Service) -> dict[str, ModelLoad]:
    """Return the load of each model in this process."""
    health, streams = service.engine.health.models, service.streams
    loads = {}
    for name, model in service.catalogue.current.items():
        latencies = service.sampler.rates(name)["latencies"]
        loads[name] = ModelLoad(
            state=health[model.key].state,
            sessions=streams.open_streams(model.key),
            capacity=streams.capacity,
            lag_s=percentile(latencies, LAG_PART) or 0.0,
        )
    return loads


async def ask_fleet(
    service: Service, request: Request, method: str, path: str
) -> list[tuple[Replica, Any]]:
    """Ask the other replicas on behalf of a client; none where there is no fleet."""
    if service.fleet is None:
        return []
    others = [one for one in service.fleet.others if one.url]
    authorization = request.headers.get("authorization", "")
    return await ask_replicas(others, method, path, authorization)
