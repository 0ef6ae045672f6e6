"""The REST client: models, classification of recordings, readiness, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from typing import Any, Final, NamedTuple

import httpx
import msgpack

from saccade.clients.conversion import SensorLike, to_events, to_sensor
from saccade.clients.endpoint import (
    Address,
    is_loopback,
    rest_url,
    tls_context,
    with_advice,
)
from saccade.clients.errors import InvalidChoice, RequestRefused, ServerUnreachable
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
    """Return the models that a server serves."""
    with _client(url) as client:
        listed = _checked(client.get("/v1/models")).json()["models"]
    return [
        ModelCard(entry["model"], Sensor.from_list(entry["sensor"]), entry["labels"])
        for entry in listed
    ]


def classify(
    url: str,
    model: str,
    recordings: Sequence[Any],
    *,
    sensor: SensorLike | None = None,
    fit: Fit = "reject",
    key: str | None = None,
) -> list[Answer]:
    """Classify whole recordings of one sensor, all in one request.

    Args:
        url: The server's address.
        model: The name of a served model.
        recordings: Each recording's events, in any form that `Stream.send` takes, in
            time order; at most 71 minutes.
        sensor: The geometry of all recordings; by default the model's own.
        fit: What to do where it is not the model's.
        key: The API key; by default that of the environment's SACCADE_KEY.

    Raises:
        ServerUnreachable: No server answers at `url`.
        RequestRefused: The server refused the request or one of the recordings.
        EventNotPackable: A recording is too long for one request.
        InvalidChoice: `recordings` is one recording and no list of them.
    """
    if hasattr(recordings, "dtype") or isinstance(recordings, Mapping):
        raise InvalidChoice("recordings", "give a list of recordings: [events]")
    body = {
        "model": model,
        "sensor": None if sensor is None else list(astuple(to_sensor(sensor))),
        "fit": fit,
        "recordings": [{"data": _packed(to_events(events))} for events in recordings],
    }
    with _client(url, key) as client:
        response = client.post(
            "/v1/classify",
            content=msgpack.packb(body),
            headers={"Content-Type": MSGPACK},
        )
        results = _checked(response).json()["results"]
    names = [field.name for field in fields(Answer)]
    return [Answer(**{name: result[name] for name in names}) for result in results]


def readiness(url: str) -> tuple[bool, str]:
    """Return whether a server is ready, and its reason where it is not."""
    with _client(url) as client:
        response = client.get("/readyz")
    return response.is_success, str(response.json().get("reason", ""))


def metrics(url: str) -> list[Sample]:
    """Return a server's metrics. Needs the package prometheus_client."""
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


@contextmanager
def _client(url: str, key: str | None = None) -> Iterator[httpx.Client]:
    base = rest_url(url)
    try:
        with httpx.Client(
            base_url=base,
            timeout=TIMEOUT_S,
            trust_env=not is_loopback(url),
            headers=Address(url, key).headers,
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
        detail = with_advice(problem["detail"], response.status_code)
        raise RequestRefused(response.status_code, problem.get("code"), detail)
    except (ValueError, KeyError, AttributeError):
        text = response.text[:200] or response.reason_phrase
        raise RequestRefused(response.status_code, None, text) from None
