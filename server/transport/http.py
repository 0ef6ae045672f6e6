"""The HTTP routes: classify recordings, list models, health, readiness, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from model.events.checks import check
from model.events.errors import EventsError
from model.events.fit import fit
from model.events.types import Events, Sensor
from server.engine.models import ServedModel
from server.protocol.errors import ProtocolError
from server.sessions.classification import Classification, classify
from server.transport.allowance import Allowance
from server.transport.bodies import ClassifyBody, parse_body
from server.transport.description import (
    CLASSIFY_REQUEST,
    CLASSIFYING,
    GUARDED,
    UNWELL,
)
from server.transport.guard import HOLDER
from server.transport.intake import take_in
from server.transport.problems import from_events, from_protocol
from server.transport.service import Service
from server.transport.tickets import TICKET_S


def http_routes(service: Service) -> APIRouter:
    """Return every route but the websocket."""
    router = APIRouter()
    concurrency = asyncio.Semaphore(min(8, service.settings.slots))

    @router.post(
        "/v1/classify",
        summary="Score whole recordings",
        openapi_extra=CLASSIFY_REQUEST,
        responses=CLASSIFYING,
    )
    async def post_classify(request: Request) -> Response:
        allowance = service.allowances.of(request.scope.get(HOLDER, ""))
        with allowance.requesting():
            body = await read_body(request, service, allowance)
            model = serving(service, body.model)
            answers = await classify_all(service, model, body, concurrency)
        return JSONResponse({**describe(model), "results": answers})

    @router.get("/v1/models", summary="List the models", responses=GUARDED)
    async def get_models() -> Response:
        health = service.engine.health.models
        return JSONResponse(
            {
                "models": [
                    {**describe(model), "state": health[model.key].state}
                    for model in service.catalogue.current.values()
                ]
            }
        )

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


def serving(service: Service, name: str) -> ServedModel:
    """Return a model, or the problem of its absence."""
    try:
        return service.model(name)
    except ProtocolError as error:
        raise from_protocol(error) from None


async def read_body(
    request: Request, service: Service, allowance: Allowance
) -> ClassifyBody:
    """Take the body in, up to its limit, and read it off the event loop."""
    limit = service.settings.max_body_bytes
    body = await take_in(request, limit, lambda size: allowance.charge(size=size))
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    most = service.settings.max_recordings
    parsed = await asyncio.to_thread(parse_body, media_type.lower(), body, most)
    allowance.charge(events=sum(map(len, parsed.recordings)))
    return parsed


async def classify_all(
    service: Service,
    model: ServedModel,
    body: ClassifyBody,
    concurrency: asyncio.Semaphore,
) -> list[dict[str, Any]]:
    """Score a batch's recordings side by side, once all of them are found valid."""
    fitted = [
        await asyncio.to_thread(fit_events, events, body, model, number)
        for number, events in enumerate(body.recordings)
    ]

    async def score(events: Events) -> dict[str, Any]:
        async with concurrency:
            scores = await classify(
                service.streams, model, once(events), service.limits.window_events
            )
        bound = service.metrics.model(model.name)
        bound.recordings.inc()
        bound.events_received.inc(len(events))
        return written(scores, model)

    tasks = [asyncio.create_task(score(events)) for events in fitted]
    try:
        return list(await asyncio.gather(*tasks))
    except ProtocolError as error:
        raise from_protocol(error) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def fit_events(
    events: Events, body: ClassifyBody, model: ServedModel, number: int
) -> Events:
    """Check one recording and fit it to the model's sensor."""
    sensor = body.sensor or model.sensor
    try:
        check(events, sensor, None)
        return fit(events, sensor, model.sensor, body.fit)
    except EventsError as error:
        raise from_events(error, number) from None


async def once(events: Events) -> AsyncIterator[Events]:
    """Give a recording that is in memory as one chunk."""
    yield events


def written(scores: Classification, model: ServedModel) -> dict[str, Any]:
    """Write one recording's answer."""
    counts = {
        "events": scores.events,
        "ticks": scores.ticks,
        "pending": scores.pending,
    }
    if scores.logits is None:
        return {"label": None, "confidence": None, "logits": None, **counts}
    logits = np.asarray(scores.logits, np.float64)
    top = int(np.argmax(logits))
    return {
        "label": model.labels[top],
        "confidence": 1.0 / float(np.exp(logits - logits[top]).sum()),
        "logits": logits.tolist(),
        **counts,
    }
