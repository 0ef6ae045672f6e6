"""The bodies of `/v1/classify`: their models, and how they are read."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Final, Self, TypeAlias

import msgpack
import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    GetPydanticSchema,
    PlainValidator,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from saccade.model.events.encodings.packed import Records, records
from saccade.model.events.errors import EventOutsideSensor, EventsError
from saccade.model.events.fit import Fit
from saccade.model.events.reading import WhenTruncated
from saccade.model.events.recordings import OPENERS
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Invalid
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.messages import CLOCK_BITS
from saccade.server.transport.multipart import MULTIPART
from saccade.server.transport.problems import Problem, ProblemDocument, from_events
from saccade.server.transport.routes import ModelDescription

Integer: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""Wider than any sensor, since an event outside may be one to skip."""


def _to_array(given: Any, check: ValidatorFunctionWrapHandler) -> npt.NDArray[np.int64]:
    """Return a list of integers as an array, shape (n,).

    Another value is left to `check`, which finds its fault and takes ten times as long.
    """
    if isinstance(given, list) and {*map(type, given)} <= {int}:
        with suppress(OverflowError):
            return np.array(given, np.int64)
    return np.array(check(given), np.int64)


Column: TypeAlias = Annotated[
    npt.NDArray[np.int64],
    WrapValidator(_to_array),
    GetPydanticSchema(lambda _, handler: handler(Annotated[list[Integer], FailFast()])),
]


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

    t: Column = Field(description="µs")
    x: Column
    y: Column
    p: Column

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
        return to_events(dict(self), invalid)


def to_events(columns: dict[str, npt.NDArray[np.int64]], invalid: Invalid) -> Events:
    """Return the events of columns t, x, y and p, each (n,); see `Columns.events`."""
    events = np.empty(len(columns["t"]), EVENT_DTYPE)
    for name, wide in columns.items():
        if name != "t":
            limit = int(np.iinfo(EVENT_DTYPE[name]).max)
            beyond = (wide < 0) | (wide > limit)
            if beyond.any():
                index = int(np.argmax(beyond))
                if invalid == "reject":
                    raise EventOutsideSensor(index, name, int(wide[index]), limit + 1)
                wide = np.where(beyond, limit, wide)
        events[name] = wide
    return events


class Packed(Body):
    """One recording as the wire's packed records."""

    data: Annotated[
        bytes,
        BeforeValidator(_bytes_of),
        WithJsonSchema({"type": "string", "format": "byte"}),
    ]

    def events(self, _: Invalid) -> Records:
        """Return the recording's events, as they came.

        Raises:
            EventsError: The data is no whole number of records.
        """
        return records(self.data)


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


def sensor_of_text(raw: Any) -> Sensor:
    """Read a geometry as text: `640x480` or `640x480x1`."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})(?:x([12]))?", str(raw))
    if match is None:
        text = "it is not WIDTHxHEIGHT or WIDTHxHEIGHTxPOLARITIES, as 640x480"
        raise PydanticCustomError("sensor", text)
    return Sensor(*(int(side) for side in match.groups() if side))


TextSensor: TypeAlias = Annotated[
    Sensor, PlainValidator(sensor_of_text, json_schema_input_type=str)
]

_Sides: TypeAlias = Annotated[
    list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=2, max_length=3)
]


PARTIAL: Final = (
    "answer the recordings that can be scored, and say of each other why it cannot; "
    "otherwise the first such refuses the request"
)


class Choices(Body):
    """Which model scores recordings, and how."""

    model: str
    fit: Fit = Field("reject", description="what to do with another sensor's events")
    invalid: Invalid = Field(
        "reject", description="what an event outside the sensor or out of order costs"
    )
    sort_within_us: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="events that are late by no more are put in order before"
    )
    half_life_ms: Annotated[float, Field(ge=1e-3, le=1e12)] | None = Field(
        None, description="the scores forget with this half-life; by default never"
    )
    partial: bool = Field(default=False, description=PARTIAL)


class ClassifyRequest(Choices):
    """The recordings to score, by which model, and the sensor that they come from."""

    sensor: (
        Annotated[Sensor, PlainValidator(_sensor_of, json_schema_input_type=_Sides)]
        | None
    ) = Field(None, description="[width, height], or [width, height, polarities]")
    recordings: Annotated[list[Recording], FailFast()] = Field(min_length=1)


def _columns_of(raw: Any) -> tuple[str, ...]:
    return tuple(name.strip() for name in str(raw).split(","))


def _known_format(raw: str) -> str:
    if f".{raw}" not in OPENERS:
        known = ", ".join(suffix[1:] for suffix in OPENERS)
        text = "no reader is there for it: {known}"
        raise PydanticCustomError("format", text, {"known": known})
    return raw


_Formats: Final = {"type": "string", "enum": [suffix[1:] for suffix in OPENERS]}
_Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class ClassifyForm(Choices):
    """The text fields beside the files of a form; all but `model` may be left out.

    Those that say how a file is read mean what the options of `saccade classify` do.
    """

    model_config = ConfigDict(extra="forbid", strict=False)

    sensor: TextSensor | None = Field(
        None, description="WxH or WxHxPOLARITIES, where a file does not say it"
    )
    partial: bool = Field(default=True, description=PARTIAL)
    format: (
        Annotated[str, BeforeValidator(_known_format), WithJsonSchema(_Formats)] | None
    ) = Field(None, description="of all files; by default each file name's suffix")
    clock_bits: Annotated[int, Field(ge=CLOCK_BITS[0], le=CLOCK_BITS[1])] | None = None
    chip: _Text | None = None
    camera: _Text | None = None
    columns: (
        Annotated[
            tuple[str, ...],
            PlainValidator(_columns_of, json_schema_input_type=str),
        ]
        | None
    ) = None
    truncated: WhenTruncated = "refuse"

    @classmethod
    def parse(cls, values: dict[str, str]) -> Self:
        """Read a form's text fields.

        Raises:
            Problem: A value is wrong, or `model` is missing.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise from_validation(error) from None


class RecordingScores(BaseModel):
    """The scores of one recording; `pending` events after the last tick have none.

    `skipped` invalid events were left out, `skipped_first` says why the first was. A
    recording that cannot be scored has a `problem` instead, and no label. A file has a
    `name`, its own `sensor` and what its reader remarks in `warnings`.
    """

    name: str | None = None
    label: str | None = None
    confidence: float | None = None
    logits: list[float] | None = None
    events: int = 0
    ticks: int = 0
    pending: int = 0
    skipped: int = 0
    skipped_first: str | None = None
    sensor: list[int] | None = None
    warnings: list[str] = []
    problem: ProblemDocument | None = None


class ClassifyResponse(ModelDescription):
    """The scores of each recording, in order, and the model that gave them."""

    results: list[RecordingScores]


def parse_body(
    media_type: str, body: bytes | bytearray, max_recordings: int
) -> tuple[ClassifyRequest, list[Events | Records | Problem]]:
    """Read a JSON or msgpack body.

    Returns:
        The request without its recordings, and the events of each; or, where the
        request is partial, what is wrong with a recording.

    Raises:
        Problem: The media type is another, or something in the body is wrong.
    """
    parse = PARSERS.get(media_type)
    if parse is None:
        known = ", ".join((*PARSERS, MULTIPART))
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
        events_of(each, number, request)
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


def events_of(
    recording: Columns | Packed, number: int, request: ClassifyRequest
) -> Events | Records | Problem:
    """Return a recording's events; raise its problem, or return it if partial."""
    try:
        return recording.events(request.invalid)
    except EventsError as error:
        problem = from_events(error, number)
    if request.partial:
        return problem
    raise problem


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


def _unpack(body: bytes | bytearray) -> Any:
    return msgpack.unpackb(body, strict_map_key=True, max_ext_len=0)


PARSERS: Final[dict[str, Callable[[bytes | bytearray], Any]]] = {
    "application/json": from_json,
    "application/msgpack": _unpack,
    "application/vnd.msgpack": _unpack,
    "application/x-msgpack": _unpack,
}
"""For each media type, the function that parses a body."""
