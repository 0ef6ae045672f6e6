"""`POST /v1/classify`: the models of its bodies, and the route that scores them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final, Self, TypeAlias

import msgpack
import numpy as np
from fastapi import APIRouter, Request
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from saccade.model.events.encodings.packed import unpack
from saccade.model.events.errors import EventOutsideSensor, EventsError
from saccade.model.events.fit import Fit, fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Invalid, Skipped, Tolerance
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.engine.model_registry import ServedModel
from saccade.server.protocol.errors import (
    InvalidField,
    ProtocolError,
)
from saccade.server.protocol.reporting import scores
from saccade.server.sessions.classify import Classification, classify
from saccade.server.transport.guard import HOLDER
from saccade.server.transport.problems import (
    GUARDED,
    Problem,
    from_events,
    from_protocol,
    problems,
    schema_of,
)
from saccade.server.transport.rate_limits import KeyQuota
from saccade.server.transport.request_body import receive_body
from saccade.server.transport.routes import ModelDescription, describe
from saccade.server.transport.service import Service

Time: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Pixel: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""Wider than any sensor, since an event outside may be one to skip."""


def _bytes_of(value: Any) -> Any:
    """Decode base64 text, as JSON carries bytes; leave another value as it is."""
    return base64.b64decode(value, validate=True) if isinstance(value, str) else value


class Body(BaseModel):
    """A map of known fields, each of exactly its type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, raw: Any) -> Any:
        """Refuse the first unknown field; pydantic would list every one of millions."""
        if isinstance(raw, dict):
            for name in raw:
                if name not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_field", "there is no such field", {"name": str(name)}
                    )
        return raw


class Columns(Body):
    """One recording as columns, all of one length, in time order."""

    t: Annotated[list[Time], FailFast()] = Field(description="µs")
    x: Annotated[list[Pixel], FailFast()]
    y: Annotated[list[Pixel], FailFast()]
    p: Annotated[list[Pixel], FailFast()]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        lengths = {name: len(column) for name, column in self}
        if len(set(lengths.values())) > 1:
            text = "its columns have different lengths: {lengths}"
            raise PydanticCustomError("lengths", text, {"lengths": str(lengths)})
        return self

    def events(self, invalid: Invalid) -> Events:
        """Return the recording's events.

        One to be skipped has the largest values, which are outside every sensor.

        Raises:
            EventOutsideSensor: A value is none of a sensor's, and not to be skipped.
        """
        events = np.empty(len(self.t), EVENT_DTYPE)
        for name, column in self:
            wide = np.array(column, np.int64)
            if name != "t":
                limit = int(np.iinfo(EVENT_DTYPE[name]).max)
                beyond = (wide < 0) | (wide > limit)
                if beyond.any() and invalid == "reject":
                    index = int(np.argmax(beyond))
                    raise EventOutsideSensor(index, name, int(wide[index]), limit + 1)
                wide[beyond] = limit
            events[name] = wide
        return events


class Packed(Body):
    """One recording as the wire's packed records."""

    data: Annotated[
        bytes,
        BeforeValidator(_bytes_of),
        WithJsonSchema({"type": "string", "format": "byte"}),
    ]

    def events(self, _: Invalid) -> Events:
        """Return the recording's events.

        Raises:
            EventsError: The data is no whole number of records.
        """
        return unpack(self.data, 0)


KINDS: Final = ("columns", "packed")


def _kind_of(raw: Any) -> str:
    return KINDS[isinstance(raw, dict) and "data" in raw]


Recording: TypeAlias = Annotated[
    Annotated[Columns, Tag("columns")] | Annotated[Packed, Tag("packed")],
    Discriminator(_kind_of),
]


def _sensor_of(raw: Any) -> Sensor:
    sides = raw if isinstance(raw, list) else []
    if len(sides) not in {2, 3} or any(type(side) is not int for side in sides):
        text = "it is not [width, height] or [width, height, polarities]"
        raise PydanticCustomError("sensor", text)
    return Sensor.from_list(sides)


_Sides: TypeAlias = Annotated[
    list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=2, max_length=3)
]


class ClassifyRequest(Body):
    """The recordings to score, by which model, and the sensor that they come from."""

    model: str
    sensor: (
        Annotated[Sensor, PlainValidator(_sensor_of, json_schema_input_type=_Sides)]
        | None
    ) = Field(None, description="[width, height], or [width, height, polarities]")
    fit: Fit = "reject"
    invalid: Invalid = Field(
        "reject", description="what an event outside the sensor or out of order costs"
    )
    sort_within_us: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="events that are late by no more are put in order before"
    )
    recordings: Annotated[list[Recording], FailFast()] = Field(min_length=1)


class RecordingScores(BaseModel):
    """The scores of one recording; `pending` events after the last tick have none.

    `skipped` invalid events were left out, `skipped_first` says why the first was.
    """

    label: str | None = None
    confidence: float | None = None
    logits: list[float] | None = None
    events: int
    ticks: int
    pending: int
    skipped: int = 0
    skipped_first: str | None = None


class ClassifyResponse(ModelDescription):
    """The scores of each recording, in order, and the model that gave them."""

    results: list[RecordingScores]


OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "JSON; or the same map as application/msgpack, where `data` is "
        "bytes. It may be gzipped.",
        "content": {"application/json": {"schema": schema_of(ClassifyRequest)}},
    }
}
PROBLEMS: Final = GUARDED | problems(
    s400="the body cannot be read",
    s404="no such model",
    s413="too long, or too many recordings",
    s415="of another media type or encoding",
    s422="something in the body is wrong; says where",
    s429="the key's holder uses more than it may",
    s500="a fault of the server's",
    s503="try again later",
)


def classify_routes(service: Service) -> APIRouter:
    """Return the route that scores whole recordings."""
    router = APIRouter()
    concurrency = asyncio.Semaphore(min(8, service.settings.slots))

    @router.post(
        "/v1/classify",
        summary="Score whole recordings",
        openapi_extra=OPENAPI,
        responses=PROBLEMS,
    )
    async def post_classify(request: Request) -> ClassifyResponse:
        quota = service.quotas.of(request.scope.get(HOLDER, ""))
        try:
            with quota.request():
                body, recordings = await read_body(request, service, quota)
                model = service.model(body.model)
                results = await score_all(service, model, body, recordings, concurrency)
        except ProtocolError as error:
            raise from_protocol(error) from None
        return ClassifyResponse(**describe(model), results=results)

    return router


async def read_body(
    request: Request, service: Service, quota: KeyQuota
) -> tuple[ClassifyRequest, list[Events]]:
    """Receive the body, up to its limit, and parse it off the event loop."""
    settings = service.settings
    body = await receive_body(
        request, settings.max_body_bytes, lambda size: quota.charge(size=size)
    )
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    parsed = await asyncio.to_thread(
        parse_body, media_type.lower(), body, settings.max_recordings
    )
    quota.charge(events=sum(map(len, parsed[1])))
    return parsed


def parse_body(
    media_type: str, body: bytes, max_recordings: int
) -> tuple[ClassifyRequest, list[Events]]:
    """Read a JSON or msgpack body.

    Raises:
        Problem: The media type is another, or something in the body is wrong.
    """
    parse = PARSERS.get(media_type)
    if parse is None:
        known = ", ".join(PARSERS)
        raise Problem(
            415, "unsupported_media_type", f"send {known}",
            field="content-type", value=media_type,
        )  # fmt: skip
    try:
        raw = parse(body)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Problem(400, "malformed_body", f"cannot read the body: {error}") from None
    if not isinstance(raw, dict):
        raise Problem(400, "malformed_body", "the body is not a map")
    if isinstance(raw.get("recordings"), list):
        check_count(len(raw["recordings"]), max_recordings)
    try:
        request = ClassifyRequest.model_validate(raw)
    except ValidationError as error:
        raise from_validation(error) from None
    events = [
        events_of(each, number, request.invalid)
        for number, each in enumerate(request.recordings)
    ]
    request.recordings.clear()  # lists take some ten times the memory of events
    return request, events


def check_count(count: int, limit: int) -> None:
    """Refuse an empty batch, and one that is too large.

    Raises:
        Problem: The batch is one of these.
    """
    if count == 0:
        raise Problem(422, "empty_batch", "there is no recording", field="recordings")
    if count > limit:
        detail = f"{count} recordings in one request; at most {limit} are taken"
        raise Problem(413, "batch_too_large", detail, field="recordings", value=count)


def events_of(recording: Columns | Packed, number: int, invalid: Invalid) -> Events:
    """Return a recording's events, or raise the problem that names the recording."""
    try:
        return recording.events(invalid)
    except EventsError as error:
        raise from_events(error, number) from None


def from_validation(error: ValidationError) -> Problem:
    """Write the first fault of a body as a problem."""
    first = error.errors(include_url=False)[0]
    field, index = _place_of(first)
    where = f"field {field!r}" if index is None else f"field {field!r}, element {index}"
    detail = f"{where}: {first['msg']}"
    absent = first["type"] in {"missing", "unknown_field"}  # the input is the whole map
    value = None if absent else first["input"]
    return Problem(
        422, InvalidField.code, detail, field=field, index=index, value=value
    )


def _place_of(error: ErrorDetails) -> tuple[str, int | None]:
    """Return the field, as `recordings[1].x`, and the index of an element in it."""
    path = [part for part in error["loc"] if part not in KINDS]
    if error["type"] == "unknown_field":
        path.append(error["ctx"]["name"])
    last, index = path[-1], None
    if isinstance(last, int) and path[-2] != "recordings":
        index = last
        path.pop()
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix("."), index


def _unpack(body: bytes) -> Any:
    return msgpack.unpackb(body, strict_map_key=True, max_ext_len=0)


PARSERS: Final[dict[str, Callable[[bytes], Any]]] = {
    "application/json": json.loads,
    "application/msgpack": _unpack,
    "application/vnd.msgpack": _unpack,
    "application/x-msgpack": _unpack,
}
"""For each media type, the function that parses a body."""


async def score_all(
    service: Service,
    model: ServedModel,
    request: ClassifyRequest,
    recordings: list[Events],
    concurrency: asyncio.Semaphore,
) -> list[RecordingScores]:
    """Score a batch's recordings side by side, once all of them are found valid.

    Raises:
        Problem: A recording's events do not pass, or do not fit the sensor.
        ProtocolError: The engine has no place for a recording, or failed.
    """
    fitted = [
        await asyncio.to_thread(fit_events, events, request, model, number)
        for number, events in enumerate(recordings)
    ]

    async def score(events: Events, skipped: Skipped) -> RecordingScores:
        async with concurrency:
            result = await classify(
                service.streams, model, once(events), service.limits.window_events
            )
        metrics = service.metrics.model(model.name)
        metrics.recordings.inc()
        metrics.events_received.inc(len(events))
        metrics.events_skipped.inc(skipped.events)
        return scores_of(result, model, skipped)

    tasks = [asyncio.create_task(score(*each)) for each in fitted]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def fit_events(
    events: Events, request: ClassifyRequest, model: ServedModel, number: int
) -> tuple[Events, Skipped]:
    """Check one recording and fit it to the model's sensor; say what was left out."""
    sensor = request.sensor or model.sensor
    tolerance = Tolerance(sensor, request.invalid, request.sort_within_us)
    try:
        valid = tolerance.whole(events)
        return fit(valid, sensor, model.sensor, request.fit), tolerance.skipped
    except EventsError as error:
        raise from_events(error, number) from None


async def once(events: Events) -> AsyncIterator[Events]:
    """Yield a recording that is in memory as one chunk."""
    yield events


def scores_of(
    result: Classification, model: ServedModel, skipped: Skipped
) -> RecordingScores:
    """Write one recording's scores."""
    top: dict[str, Any] = {}
    if result.logits is not None:
        top = scores(result.logits, model.labels)._asdict()
    return RecordingScores(
        **top,
        events=result.events,
        ticks=result.ticks,
        pending=result.pending,
        skipped=skipped.events,
        skipped_first=skipped.first,
    )
