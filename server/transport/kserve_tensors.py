"""The tensors of KServe's protocol: bodies of `infer`, as JSON and as raw bytes.

A body is a JSON map. Where the header Inference-Header-Content-Length says how long
that is, raw tensors follow it, in the order of the map, little-endian and row by row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError
from pydantic_core import from_json

from saccade.model.events.encodings.packed import RECORD_BYTES, Records, records
from saccade.model.events.errors import EventsError
from saccade.model.events.tolerance import Invalid
from saccade.model.events.types import Events
from saccade.server.protocol.errors import InvalidField
from saccade.server.transport.classify_bodies import (
    Body,
    Choices,
    RecordingScores,
    TextSensor,
    from_validation,
    to_events,
)
from saccade.server.transport.problems import Problem, from_events

HEADER_LENGTH: Final = "inference-header-content-length"
Array: TypeAlias = npt.NDArray[Any]
Datatype: TypeAlias = Literal["INT64", "UINT8"]
TYPES: Final[dict[Datatype, str]] = {"INT64": "<i8", "UINT8": "u1"}
COLUMNS: Final = ("t", "x", "y", "p")


class TensorSpec(NamedTuple):
    """A tensor as a model's metadata describes it; -1 is a side of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


INPUTS: Final = (
    TensorSpec("events", "INT64", (-1, len(COLUMNS))),
    TensorSpec("packed", "UINT8", (-1, RECORD_BYTES)),
    TensorSpec("offsets", "INT64", (-1,)),
)
"""Either `events` or `packed`, of all recordings one after another; `offsets` says at
which row each begins, and in the end how many rows there are."""


class InputParameters(Body):
    """The number of raw bytes that hold a tensor."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = None


class InputTensor(Body):
    """A tensor in a request: `data` in JSON, flat or nested, or raw bytes."""

    name: Literal["events", "packed", "offsets"]
    shape: list[Annotated[int, Field(ge=0, lt=2**40)]] = Field(max_length=2)
    datatype: Datatype
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(Body):
    """Whether a tensor is answered as raw bytes."""

    binary_data: bool = False


class OutputRequest(Body):
    """A tensor to answer."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferParameters(Choices):
    """How recordings are scored, and whether tensors are answered as raw bytes."""

    sensor: TextSensor | None = None
    partial: Literal[False] = False
    binary_data_output: bool = False


class InferRequest(Body):
    """A request to score recordings; `outputs` are all where they are left out."""

    id: str | None = Field(None, max_length=200)
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InputTensor] = Field(min_length=1, max_length=2)
    outputs: list[OutputRequest] | None = Field(None, max_length=20)


class OutputTensor(NamedTuple):
    """A tensor of an answer."""

    name: str
    datatype: str
    values: Array


def parse_infer(
    body: bytes | bytearray, header_length: str | None
) -> tuple[InferRequest, dict[str, Array]]:
    """Read a request's map, and its input tensors by name.

    Raises:
        Problem: The body is malformed, or a tensor is not as the map says.
    """
    try:
        length = len(body) if header_length is None else int(header_length)
        if not 0 <= length <= len(body):
            raise ValueError(f"{HEADER_LENGTH} is {length}, of {len(body)} bytes")
        plain = from_json(body[:length])
        if not isinstance(plain, dict):
            raise TypeError("it is no map")
    except (ValueError, TypeError, RecursionError) as error:
        raise Problem(400, "malformed_body", f"cannot read the body: {error}") from None
    try:
        request = InferRequest.model_validate(plain)
    except ValidationError as error:
        raise from_validation(error) from None
    return request, _read_tensors(request.inputs, memoryview(body)[length:])


def parse_parameters(model: str, plain: dict[str, Any]) -> InferParameters:
    """Read a request's parameters.

    Raises:
        Problem: One is wrong, or is none.
    """
    try:
        return InferParameters.model_validate(plain | {"model": model})
    except ValidationError as error:
        raise from_validation(error) from None


def _read_tensors(inputs: Sequence[InputTensor], raw: memoryview) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for tensor in inputs:
        spec = next(each for each in INPUTS if each.name == tensor.name)
        if tensor.name in found:
            raise invalid(tensor.name, "it is given twice")
        if tensor.datatype != spec.datatype or not _fits(tensor.shape, spec.shape):
            shape = ", ".join(map(str, spec.shape))
            raise invalid(tensor.name, f"it is to be {spec.datatype} of [{shape}]")
        size = tensor.parameters.binary_data_size
        if size is None:
            found[tensor.name] = _from_json(tensor)
        else:
            found[tensor.name] = _from_bytes(tensor, raw[:size])
            raw = raw[size:]
    if raw:
        raise Problem(400, "malformed_body", f"{len(raw)} bytes follow the tensors")
    return found


def _fits(shape: Sequence[int], spec: Sequence[int]) -> bool:
    pairs = zip(shape, spec, strict=False)
    return len(shape) == len(spec) and all(want in {-1, side} for side, want in pairs)


def _from_json(tensor: InputTensor) -> Array:
    kind = np.dtype(TYPES[tensor.datatype])
    flat = _flattened(tensor)
    if len(flat) != math.prod(tensor.shape):
        reason = f"{len(flat)} numbers are not a tensor of {tensor.shape}"
        raise invalid(tensor.name, reason)
    if {*map(type, flat)} <= {int}:
        with suppress(OverflowError):
            return np.array(flat, kind).reshape(tensor.shape)
    limits = np.iinfo(kind)
    index = next(
        index
        for index, value in enumerate(flat)
        if type(value) is not int or not limits.min <= value <= limits.max
    )
    raise invalid(tensor.name, f"element {index} is no {tensor.datatype}")


def _flattened(tensor: InputTensor) -> list[Any]:
    rows = (each if isinstance(each, list) else (each,) for each in tensor.data or ())
    return [*chain.from_iterable(rows)]


def _from_bytes(tensor: InputTensor, raw: memoryview) -> Array:
    kind = np.dtype(TYPES[tensor.datatype])
    wanted = math.prod(tensor.shape) * kind.itemsize
    if tensor.data is not None:
        raise invalid(tensor.name, "it has both data and binary_data_size")
    if len(raw) != wanted or tensor.parameters.binary_data_size != wanted:
        reason = f"a tensor of {tensor.shape} has {wanted} bytes, not {len(raw)}"
        raise invalid(tensor.name, reason)
    return np.frombuffer(raw, kind).reshape(tensor.shape)


def recordings_of(
    tensors: dict[str, Array], kept: Invalid, check_count: Callable[[int], None]
) -> list[Events | Records]:
    """Return the events of each recording.

    Args:
        tensors: The request's.
        kept: What to do with an event that is in no sensor.
        check_count: Receives the number of recordings; may raise.

    Raises:
        Problem: The tensors are no recordings.
    """
    if ("events" in tensors) == ("packed" in tensors):
        raise invalid("inputs", "give one of events and packed")
    rows = tensors["events" if "events" in tensors else "packed"]
    bounds = tensors.get("offsets", np.array([0, len(rows)]))
    within = len(bounds) > 1 and bounds[0] == 0 and bounds[-1] == len(rows)
    if not within or (bounds[1:] < bounds[:-1]).any():
        reason = f"they are to rise from 0 to {len(rows)}, the number of rows"
        raise invalid("offsets", reason)
    check_count(len(bounds) - 1)
    found: list[Events | Records] = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        try:
            found.append(_events(rows[begin:end], kept))
        except EventsError as error:
            raise from_events(error, number) from None
    return found


def _events(rows: Array, kept: Invalid) -> Events | Records:
    if rows.dtype == np.uint8:
        return records(rows.tobytes())
    return to_events({name: rows[:, at] for at, name in enumerate(COLUMNS)}, kept)


def output_specs(classes: int) -> tuple[TensorSpec, ...]:
    """Return the tensors of an answer, of a model of so many classes."""
    return (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("confidence", "FP32", (-1,)),
        TensorSpec("logits", "FP32", (-1, classes)),
        TensorSpec("events", "INT64", (-1,)),
        TensorSpec("ticks", "INT64", (-1,)),
        TensorSpec("pending", "INT64", (-1,)),
        TensorSpec("skipped", "INT64", (-1,)),
    )


def outputs_of(results: Sequence[RecordingScores], classes: int) -> list[OutputTensor]:
    """Write scores as tensors; those of a recording without a tick are NaN."""
    nothing = [math.nan] * classes
    columns: dict[str, Array] = {
        "label": np.array([each.label or "" for each in results], np.object_),
        "confidence": np.array([_number(r.confidence) for r in results], "<f4"),
        "logits": np.array([r.logits or nothing for r in results], "<f4"),
    }
    for name in ("events", "ticks", "pending", "skipped"):
        columns[name] = np.array([getattr(each, name) for each in results], "<i8")
    specs = output_specs(classes)
    return [OutputTensor(s.name, s.datatype, columns[s.name]) for s in specs]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def chosen(
    outputs: Sequence[OutputTensor], request: InferRequest, *, binary: bool
) -> list[tuple[OutputTensor, bool]]:
    """Return the tensors that a request asks for, and whether each is raw.

    Raises:
        Problem: There is no such tensor.
    """
    if request.outputs is None:
        return [(each, binary) for each in outputs]
    by_name = {each.name: each for each in outputs}
    for wanted in request.outputs:
        if wanted.name not in by_name:
            raise invalid("outputs", f"there is no {wanted.name!r:.80}")
    return [(by_name[o.name], o.parameters.binary_data) for o in request.outputs]


def write_outputs(
    head: dict[str, Any], tensors: Sequence[tuple[OutputTensor, bool]]
) -> tuple[bytes, int | None]:
    """Return an answer's body, and the length of its map where raw tensors follow."""
    described, raw = [], []
    for tensor, binary in tensors:
        plain: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.values.shape),
        }
        if binary:
            raw.append(_to_bytes(tensor))
            plain["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            plain["data"] = _to_json(tensor)
        described.append(plain)
    text = json.dumps(head | {"outputs": described}).encode()
    return b"".join([text, *raw]), len(text) if raw else None


def _to_bytes(tensor: OutputTensor) -> bytes:
    if tensor.datatype != "BYTES":
        return tensor.values.tobytes()
    texts = [text.encode() for text in tensor.values]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _to_json(tensor: OutputTensor) -> list[Any]:
    """Return a tensor's numbers, row by row; null is not a number."""
    flat = tensor.values.ravel().tolist()
    return [None if number != number else number for number in flat]


def invalid(field: str, reason: str) -> Problem:
    """Return the problem of a field."""
    detail = f"field {field!r}: {reason}"
    return Problem(422, InvalidField.code, detail, field=field)
