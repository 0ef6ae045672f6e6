"""`/v1/models`: what there is to ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from saccade.model.events.types import Sensor
from saccade.server.engine.models import ServedModel
from saccade.server.transport.description import GUARDED
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
        "sensor": geometry(model.sensor),
        "tick_events": model.tick_events,
    }


def geometry(sensor: Sensor) -> list[int]:
    """Write a sensor as the wire does: its polarities only where there is one."""
    sides = [sensor.width, sensor.height]
    return sides if sensor.polarities == 2 else [*sides, sensor.polarities]
