"""The REST client: models, classification of recordings, readiness, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, Final, NamedTuple

import httpx
import msgpack

from saccade.clients.endpoint import authorization, is_loopback, rest_url, tls_context
from saccade.clients.errors import RequestRefused, ServerUnreachable
from saccade.model.events.encodings.packed import pack
from saccade.model.events.fit import Fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

TIMEOUT_S: Final = 120.0
MSGPACK: Final = "application/msgpack"


@dataclass(frozen=True)
class Answer:
    """The class of one recording; None where it is too short for a tick.

    Attributes:
        label: The label with the largest score.
        confidence: The label's probability under a softmax, 0–1.
        events: How many events are in the scores.
        pending: How many events are in no score: less than a tick.
        logits: The scores, one a label.
    """

    label: str | None
    confidence: float | None
    events: int
    pending: int
    logits: list[float] | None


class ModelCard(NamedTuple):
    """A model that a server serves."""

    name: str
    sensor: Sensor
    labels: list[str]


class Sample(NamedTuple):
    """One number of a server's metrics."""

    name: str
    labels: dict[str, str]
    value: float


def models(url: str) -> list[ModelCard]:
    """Return the models that a server serves.

    Raises:
        ServerUnreachable: No server answers at `url`.
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
    fit: Fit = "reject",
) -> list[Answer]:
    """Classify whole recordings of one sensor, all in one request.

    Args:
        url: The server's address.
        model: The name of a served model.
        recordings: Each recording's events, in time order; at most 71 minutes.
        sensor: The geometry of all recordings.
        fit: What to do where it is not the model's.

    Raises:
        ServerUnreachable: No server answers at `url`.
        RequestRefused: The server refused the request or one of the recordings.
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
    """Return whether a server is ready, and its reason where it is not.

    Raises:
        ServerUnreachable: No server answers at `url`.
    """
    with _client(url) as client:
        response = client.get("/readyz")
    return response.is_success, str(response.json().get("reason", ""))


def metrics(url: str) -> list[Sample]:
    """Return a server's metrics. Needs the package prometheus_client.

    Raises:
        ServerUnreachable: No server answers at `url`.
        RequestRefused: The server answered with a problem.
    """
    with _client(url) as client:
        return parse_metrics(_checked(client.get("/metrics")).text)


def parse_metrics(text: str) -> list[Sample]:
    """Read Prometheus' text format. Needs the package prometheus_client."""
    from prometheus_client.parser import text_string_to_metric_families

    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
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
            verify=tls_context(base) or True,
        ) as client:
            yield client
    except (httpx.TransportError, OSError) as error:
        raise ServerUnreachable(url, str(error) or type(error).__name__) from error


def _checked(response: httpx.Response) -> httpx.Response:
    """Return a successful response; raise RequestRefused for any other."""
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
