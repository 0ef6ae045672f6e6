"""The body of `POST /v1/classify`: bytes to recordings, each field checked by name."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from saccade.model.events.encodings.packed import unpack
from saccade.model.events.errors import EventOutsideSensor, EventsError
from saccade.model.events.fit import POLICIES, Fit, fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events, check
from saccade.server.engine.model_registry import ServedModel
from saccade.server.protocol.errors import ProtocolError
from saccade.server.sessions.classify import Classification, classify
from saccade.server.transport.description import CLASSIFY_REQUEST, CLASSIFYING
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.problems import Problem, from_events, from_protocol
from saccade.server.transport.rate_limits import KeyQuota
from saccade.server.transport.request_body import take_in
from saccade.server.transport.routes import describe
from saccade.server.transport.service import Service

FIELDS: Final = {"model", "sensor", "fit", "recordings"}
COLUMNS: Final = ("t", "x", "y", "p")


@dataclass(frozen=True)
class ClassifyBody:
    """What a request asks: these recordings, of this sensor, by this model."""

    model: str
    sensor: Sensor | None
    fit: Fit
    recordings: list[Events]


def parse_body(media_type: str, body: bytes, max_recordings: int) -> ClassifyBody:
    """Read a JSON or msgpack body.

    Raises:
        Problem: The media type is another, or something in the body is wrong.
    """
    parse = PARSERS.get(media_type)
    if parse is None:
        known = ", ".join(PARSERS)
        raise Problem(
            415, "unsupported_media_type", f"send {known} or multipart/form-data",
            field="content-type", value=media_type,
        )  # fmt: skip
    try:
        raw = parse(body)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Problem(400, "malformed_body", f"cannot read the body: {error}") from None
    if not isinstance(raw, dict):
        raise Problem(400, "malformed_body", "the body is not a map")
    for name in raw:
        if name not in FIELDS:
            raise _invalid(str(name), "is unknown")
    return ClassifyBody(
        model=_text(raw, "model"),
        sensor=parse_sensor(raw.get("sensor")),
        fit=parse_fit(raw.get("fit", "reject")),
        recordings=_recordings(raw.get("recordings"), max_recordings),
    )


def parse_sensor(value: Any) -> Sensor | None:
    """Read `[width, height]`, with 1 after it for one polarity; None is the model's.

    Raises:
        Problem: It is neither.
    """
    if value is None:
        return None
    sides = value if isinstance(value, list) else []
    if len(sides) not in {2, 3} or not all(type(side) is int for side in sides):
        raise _invalid(
            "sensor", "is not [width, height] or [width, height, polarities]", value
        )
    try:
        return Sensor.from_list(sides)
    except ValueError as error:
        raise _invalid("sensor", f"is out of range: {error}", value) from None


def parse_fit(value: Any) -> Fit:
    """Read the fit policy.

    Raises:
        Problem: There is no such policy.
    """
    if not isinstance(value, str) or value not in POLICIES:
        raise _invalid("fit", f"is not one of {', '.join(POLICIES)}", value)
    return value


def check_count(count: int, limit: int) -> None:
    """Refuse an empty batch, and one that is too large.

    Raises:
        Problem: It is one of these.
    """
    if count == 0:
        raise Problem(422, "empty_batch", "there is no recording", field="recordings")
    if count > limit:
        detail = f"{count} recordings in one request; at most {limit} are taken"
        raise Problem(413, "batch_too_large", detail, field="recordings", value=count)


def _recordings(value: Any, limit: int) -> list[Events]:
    if not isinstance(value, list):
        raise _invalid("recordings", "is not a list")
    check_count(len(value), limit)
    return [_recording(raw, index) for index, raw in enumerate(value)]


def _recording(raw: Any, number: int) -> Events:
    """Read one recording, as columns or as packed records."""
    where = f"recordings[{number}]"
    if not isinstance(raw, dict):
        raise _invalid(where, "is not a map")
    if set(raw) == {"data"}:
        return _packed(raw["data"], number)
    if set(raw) != set(COLUMNS):
        raise _invalid(where, "has not exactly the fields t, x, y, p, or data")
    columns = {name: _column(raw[name], f"{where}.{name}") for name in COLUMNS}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise _invalid(where, f"has columns of different lengths: {lengths}")
    return _assemble(columns, number)


def _assemble(columns: Mapping[str, npt.NDArray[np.int64]], number: int) -> Events:
    events = np.empty(len(columns["t"]), EVENT_DTYPE)
    for name, column in columns.items():
        if name != "t":
            # Beyond the type's range a value would wrap into the sensor.
            limit = 256 if name == "p" else 65536
            outside = (column < 0) | (column >= limit)
            if outside.any():
                index = int(np.argmax(outside))
                error = EventOutsideSensor(index, name, int(column[index]), limit)
                raise from_events(error, number)
        events[name] = column
    return events


def _column(value: Any, field: str) -> npt.NDArray[np.int64]:
    """Read a list of integers; name the first element that is none."""
    if not isinstance(value, list):
        raise _invalid(field, "is not a list of integers")
    for index, element in enumerate(value):
        if type(element) is not int or not -(2**63) <= element < 2**63:
            raise Problem(
                422, "invalid_field", f"{field}[{index}] is not a 64-bit integer",
                field=field, index=index, value=_quote(element),
            )  # fmt: skip
    return np.array(value, np.int64)


def _packed(value: Any, number: int) -> Events:
    field = f"recordings[{number}].data"
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _invalid(field, "is not base64") from None
    if not isinstance(value, bytes):
        raise _invalid(field, "is neither bytes nor base64")
    try:
        return unpack(value, 0)
    except EventsError as error:
        raise from_events(error, number) from None


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise _invalid(name, "is missing" if value is None else "is not text", value)
    return value


def _invalid(field: str, reason: str, value: Any = None) -> Problem:
    detail = f"field {field!r} {reason}"
    return Problem(422, "invalid_field", detail, field=field, value=_quote(value))


def _quote(value: Any) -> Any:
    """Make a value fit for an answer: JSON has no NaN."""
    unwritable = isinstance(value, float) and not math.isfinite(value)
    return str(value) if unwritable or isinstance(value, (list, dict, bytes)) else value


def _unpack(body: bytes) -> Any:
    return msgpack.unpackb(body, strict_map_key=True, max_ext_len=0)


PARSERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "application/json": json.loads,
    "application/msgpack": _unpack,
    "application/vnd.msgpack": _unpack,
    "application/x-msgpack": _unpack,
}


# >>> merged from server.transport.classify_routes
# >>> """`/v1/classify`: a request's recordings, checked, fitted and scored."""


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
    request: Request, service: Service, allowance: KeyQuota
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
