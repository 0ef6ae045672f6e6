"""RFC 9457 problem documents: the answer to every request that is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    ReaderMissing,
    RecordingError,
    SensorMismatch,
    UnsortedEvents,
    UnsupportedRecording,
)
from saccade.server.logs import log_refusal
from saccade.server.protocol import errors as wire

KSERVE: Final = "/v2"
"""Where the paths of KServe's protocol begin."""
MEDIA_TYPE: Final = "application/problem+json"
TITLES: Final = {
    400: "Bad request",
    401: "A key is needed",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    413: "Too large",
    415: "Unsupported media type",
    422: "Refused",
    426: "A websocket",
    429: "Too much",
    500: "Server error",
    503: "Not available",
}


class ProblemDocument(BaseModel):
    """The body of a refusal; `recording`, `field` and `index` locate the fault."""

    model_config = ConfigDict(extra="forbid")

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable; programs may depend on it")
    recording: int | None = None
    field: str | None = None
    index: int | None = None
    value: bool | int | float | str | None = None
    retry_after_s: float | None = None
    error: str | None = Field(
        None, description="the detail, where clients of KServe's protocol look for it"
    )


class Problem(Exception):
    """The reason that a request is refused for.

    Args:
        status: HTTP status.
        code: Stable name of the reason.
        detail: A sentence for a person.
        facts: Any of `recording`, `field`, `index`, `value` and `retry_after_s`.
    """

    def __init__(self, status: int, code: str, detail: str, **facts: Any) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.facts = {name: fact for name, fact in facts.items() if fact is not None}

    def __str__(self) -> str:
        return self.detail

    @property
    def retry_s(self) -> int:
        """Seconds after which to ask again; 0 where asking again is no use."""
        least = 1 if self.status in {429, 503} else 0
        return max(least, math.ceil(float(self.facts.get("retry_after_s", 0))))

    def document(self) -> ProblemDocument:
        """Return the document that describes the problem."""
        facts: dict[str, Any]
        facts = {name: wire.quotable(fact) for name, fact in self.facts.items()}
        return ProblemDocument(
            type=f"urn:saccade:problem:{self.code}",
            title=TITLES.get(self.status, "Refused"),
            status=self.status,
            detail=wire.clip(self.detail, wire.MESSAGE_CHARACTERS),
            code=self.code,
            **facts,
        )

    def response(self, path: str) -> Response:
        """Answer a request of this path with the document."""
        described = self.document()
        if path.startswith(KSERVE):
            described.error = described.detail
        document = described.model_dump(exclude_none=True)
        retry = {"Retry-After": f"{self.retry_s}"} if self.retry_s else None
        return JSONResponse(document, self.status, retry, media_type=MEDIA_TYPE)


def from_protocol(error: wire.ProtocolError) -> Problem:
    """Write an error of the wire as a problem with the same code."""
    names = ("field", "value", "retry_after_s")
    facts = {name: getattr(error, name, None) for name in names}
    return Problem(error.http_status, error.code, str(error), **facts)


def from_events(error: EventsError, recording: int, name: str = "") -> Problem:
    """Write what is wrong with a recording: with the wire's codes, if it has some.

    Args:
        error: What is wrong.
        recording: The recording's number in the request.
        name: The recording's name at the client, if it has one.
    """
    facts: dict[str, Any] = {}
    text = str(error)
    match error:
        case EventOutsideSensor(index=index, field=field, value=value):
            code = wire.FrameOutsideSensor.code
            facts = {"field": field, "index": index, "value": value}
        case UnsortedEvents(index=index, t_us=t_us):
            code = wire.FrameUnsorted.code
            facts = {"field": "t", "index": index, "value": t_us}
        case SensorMismatch(source=source):
            code = wire.SensorRefused.code
            facts = {"field": "sensor", "value": str(source)}
        case RecordingError(reason=reason):
            code, text = UNREADABLE[isinstance(error, UnsupportedRecording)], reason
        case ReaderMissing():
            code = "reader_missing"
        case _:
            code = wire.FrameUndecodable.code
            facts = {"field": "data"}
    detail = f"{which_recording(recording, name)}: {text}"
    return Problem(422, code, detail, recording=recording, **facts)


def which_recording(number: int, name: str) -> str:
    """Return words for one recording of a request."""
    return f"recording {number} ({name})" if name else f"recording {number}"


UNREADABLE: Final = ("unreadable_recording", "unsupported_format")
"""The codes of a file that cannot be read: because of what is in it, or of its kind."""


def answer_errors(app: FastAPI, count_refusal: Callable[[str], None]) -> None:
    """Have an application answer every exception of its routes with a problem.

    Args:
        app: The application.
        count_refusal: Receives the code of each `Problem`.
    """

    async def answer_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        count_refusal(error.code)
        what = f"{request.method} {request.url.path}"
        log_refusal(request.client, what, error.code, str(error))
        return error.response(request.url.path)

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        codes = {404: "no_such_route", 405: "method_not_allowed"}
        code = codes.get(error.status_code, "bad_request")
        problem = Problem(error.status_code, code, error.detail)
        response = problem.response(request.url.path)
        response.headers.update(error.headers or {})
        methods = methods_of(app.openapi(), request.url.path)
        if error.status_code == 405 and methods:
            response.headers["Allow"] = methods  # the framework's are of one route
        return response

    async def answer_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return await answer_problem(request, invalid_request(error))

    async def answer_fault(request: Request, _: Exception) -> Response:
        text = "the server failed; its log says why"
        return Problem(500, "internal_error", text).response(request.url.path)

    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(Exception, answer_fault)


def invalid_request(error: RequestValidationError) -> Problem:
    """Write the first of what is wrong with a request's parameters or its body."""
    first = error.errors()[0]
    _, *names = first["loc"]
    field = ".".join(map(str, names)) or None
    if first["type"] == "json_invalid":
        return Problem(400, "bad_request", f"the body is not JSON: {first['msg']}")
    what = field or "the body"
    code = wire.InvalidField.code
    return Problem(422, code, f"{what}: {first['msg']}", field=field)


def methods_of(document: dict[str, Any], path: str) -> str:
    """Return the methods of all routes of a path, as `Allow` names them.

    Args:
        document: The content of `/openapi.json`.
        path: The path of a request.
    """
    found = {
        method.upper()
        for template, routes in document["paths"].items()
        if compile_path(template)[0].match(path)
        for method in routes
    }
    return ", ".join(sorted(found))


def problems(**statuses: str) -> dict[int | str, dict[str, Any]]:
    """Describe for `/openapi.json` the problem documents of a route.

    Args:
        statuses: For each status, as `s422`, when the route answers with it.
    """
    content = {MEDIA_TYPE: {"schema": schema_of(ProblemDocument)}}
    return {
        int(name.removeprefix("s")): {"description": text, "content": content}
        for name, text in statuses.items()
    }


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema without references to definitions."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(definitions[part["$ref"].rpartition("/")[2]])
        return {name: inlined(each) for name, each in part.items()}

    found: dict[str, Any] = inlined(schema)
    return found


GUARDED: Final = problems(
    s401="no key, or an unknown one", s403="a page of another origin"
)
"""The refusals of every route that asks for a key."""
