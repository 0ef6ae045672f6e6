"""`/v1/classify`: a request's recordings, checked, fitted and scored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from saccade.model.events.checks import check
from saccade.model.events.errors import EventsError
from saccade.model.events.fit import fit
from saccade.model.events.types import Events
from saccade.server.engine.models import ServedModel
from saccade.server.protocol.errors import ProtocolError
from saccade.server.sessions.classification import Classification, classify
from saccade.server.transport.allowance import Allowance
from saccade.server.transport.bodies import ClassifyBody, parse_body
from saccade.server.transport.description import CLASSIFY_REQUEST, CLASSIFYING
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.intake import take_in
from saccade.server.transport.model_routes import describe
from saccade.server.transport.problems import from_events, from_protocol
from saccade.server.transport.service import Service


def classify_routes(service: Service) -> APIRouter:
    """Return the route that scores whole recordings."""
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

    return router


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
