"""The REST interface: models, whole recordings, readiness, metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, Final, NamedTuple

import httpx
import msgpack

from saccade.clients.endpoint import authorization, is_loopback, rest_url, trusted
from saccade.clients.errors import RequestRefused, ServerUnreachable
from saccade.model.events.encodings.packed import pack
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.server.protocol.messages import FitPolicy

TIMEOUT_S: Final = 120.0
MSGPACK: Final = "application/msgpack"
SAMPLE: Final = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Answer:
    """What a recording was classified as; nothing before its first tick."""

    label: str | None
    confidence: float | None
    events: int
    pending: int
    logits: list[float] | None


class ModelCard(NamedTuple):
    """What a server says of a model that it serves."""

    name: str
    sensor: Sensor
    labels: list[str]


class Sample(NamedTuple):
    """One line of the metrics."""

    name: str
    labels: dict[str, str]
    value: float


def models(url: str) -> list[ModelCard]:
    """Return the models that a server serves.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        RequestRefused: The server answered with a problem.
    """
    with _client(url) as client:
        listed = _checked(client.get("/v1/models")).json()["models"]
    return [
        ModelCard(entry["model"], Sensor.from_list(entry["sensor"]), entry["labels"])
        for entry in listed
    ]


def classify(
    url: str,
    model: str,
    recordings: Sequence[Events],
    *,
    sensor: Sensor,
    fit: FitPolicy = "reject",
) -> list[Answer]:
    """Classify whole recordings of one sensor, all in one request.

    Args:
        url: Where the server is.
        model: The name of a served model.
        recordings: Each recording's events, in time order; at most 71 minutes.
        sensor: The geometry of all of them.
        fit: What to do when it is not the model's.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        RequestRefused: The server refused a recording, or all of them.
        EventNotPackable: A recording is too long for one request.
    """
    body = {
        "model": model,
        "sensor": list(astuple(sensor)),
        "fit": fit,
        "recordings": [{"data": _packed(events)} for events in recordings],
    }
    with _client(url) as client:
        response = client.post(
            "/v1/classify",
            content=msgpack.packb(body),
            headers={"Content-Type": MSGPACK},
        )
        results = _checked(response).json()["results"]
    return [_answer(result) for result in results]


def readiness(url: str) -> tuple[bool, str]:
    """Return whether a server is ready, and what it is doing.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
    """
    with _client(url) as client:
        response = client.get("/readyz")
    return response.is_success, str(response.json().get("reason", ""))


def metrics(url: str) -> list[Sample]:
    """Return a server's metrics.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        RequestRefused: The server answered with a problem.
    """
    with _client(url) as client:
        return parse_metrics(_checked(client.get("/metrics")).text)


def parse_metrics(text: str) -> list[Sample]:
    """Read Prometheus' text format."""
    found = (SAMPLE.fullmatch(line) for line in text.splitlines())
    return [
        Sample(match[1], dict(LABEL.findall(match[2] or "")), float(match[3]))
        for match in found
        if match
    ]


def _packed(events: Events) -> bytes:
    return pack(events, int(events["t"].min()) if events.size else 0)


def _answer(result: dict[str, Any]) -> Answer:
    return Answer(
        label=result["label"],
        confidence=result["confidence"],
        events=result["events"],
        pending=result["pending"],
        logits=result["logits"],
    )


@contextmanager
def _client(url: str) -> Iterator[httpx.Client]:
    base = rest_url(url)
    try:
        with httpx.Client(
            base_url=base,
            timeout=TIMEOUT_S,
            trust_env=not is_loopback(url),
            headers=authorization(),
            verify=trusted(base) or True,
        ) as client:
            yield client
    except (httpx.TransportError, OSError) as error:
        raise ServerUnreachable(url, str(error) or type(error).__name__) from error


def _checked(response: httpx.Response) -> httpx.Response:
    """Return an answer that is no problem, and raise one that is."""
    if response.is_success:
        return response
    try:
        problem = response.json()
        raise RequestRefused(
            response.status_code, problem.get("code"), problem["detail"]
        )
    except (ValueError, KeyError, AttributeError):
        text = response.text[:200] or response.reason_phrase
        raise RequestRefused(response.status_code, None, text) from None
