"""RFC 9457 problem documents: what an HTTP client is told when something is wrong."""

from __future__ import annotations

import math
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    SensorMismatch,
    UnsortedEvents,
)
from saccade.server.protocol import errors as wire
from saccade.server.protocol.errors import (
    MESSAGE_CHARACTERS,
    ProtocolError,
    RateExceeded,
    clip,
    quotable,
)

STATUS: Final[dict[type[ProtocolError], int]] = {
    wire.UnknownModel: 404,
    wire.SensorRefused: 422,
    wire.SlotsExhausted: 503,
    wire.NotReady: 503,
    wire.EngineFailed: 500,
    wire.InternalError: 500,
    RateExceeded: 429,
}
TITLES: Final = {
    400: "Bad request",
    401: "A key is needed",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Refused",
    429: "Too much",
    500: "Server error",
    503: "Not available",
}


class Problem(Exception):
    """Something that a request is refused for.

    Args:
        status: HTTP status.
        code: Stable name of the reason.
        detail: A sentence for a person.
        facts: Where it is: `recording`, `field`, `index`, `value`; and when to try
            again: `retry_after_s`.
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
        """In how many seconds to ask again; 0 where that is no use."""
        least = 1 if self.status in {429, 503} else 0
        return max(least, math.ceil(float(self.facts.get("retry_after_s", 0))))

    def response(self) -> Response:
        """Write the document."""
        document = {
            "type": f"urn:saccade:problem:{self.code}",
            "title": TITLES.get(self.status, "Refused"),
            "status": self.status,
            "detail": clip(self.detail, MESSAGE_CHARACTERS),
            "code": self.code,
            **{name: quotable(fact) for name, fact in self.facts.items()},
        }
        retry = {"Retry-After": f"{self.retry_s}"} if self.retry_s else None
        return JSONResponse(
            document, self.status, retry, media_type="application/problem+json"
        )


def from_protocol(error: ProtocolError) -> Problem:
    """Write an error of the wire as a problem with the same code."""
    return Problem(
        STATUS.get(type(error), 422),
        error.code,
        str(error),
        field=getattr(error, "field", None),
        value=getattr(error, "value", None),
        retry_after_s=getattr(error, "retry_after_s", None),
    )


def from_events(error: EventsError, recording: int) -> Problem:
    """Write what is wrong with a recording's events, with the wire's codes."""
    detail = f"recording {recording}: {error}"
    match error:
        case EventOutsideSensor():
            return Problem(
                422, "event_outside_sensor", detail, recording=recording,
                field=error.field, index=error.index, value=error.value,
            )  # fmt: skip
        case UnsortedEvents():
            return Problem(
                422, "unsorted_events", detail, recording=recording,
                field="t", index=error.index, value=error.t_us,
            )  # fmt: skip
        case SensorMismatch():
            return Problem(
                422, "sensor_mismatch", detail, recording=recording,
                field="sensor", value=str(error.source),
            )  # fmt: skip
        case _:
            return Problem(
                422, "malformed_events", detail, recording=recording, field="data"
            )


async def answer(request: Request, error: Exception) -> Response:
    """Answer a request with its problem."""
    assert isinstance(error, Problem)
    return error.response()
