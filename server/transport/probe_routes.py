"""What watches the server asks: is it well, is it ready, what has it done?"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from saccade.server.transport.description import GUARDED, UNWELL
from saccade.server.transport.service import Service


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
