"""The REST client: models, classification of recordings, readiness, metrics."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypedDict, Unpack

import httpx
import msgpack
import numpy as np

from saccade.clients.conversion import (
    SensorLike,
    to_events,
    to_packable,
    to_sensor,
)
from saccade.clients.endpoint import (
    Address,
    is_loopback,
    rest_url,
    tls_context,
    with_advice,
)
from saccade.clients.errors import InvalidChoice, RequestRefused, ServerUnreachable
from saccade.model.events.encodings.packed import Y_LIMIT, pack
from saccade.model.events.errors import MalformedRecording
from saccade.model.events.fit import Fit
from saccade.model.events.reading import ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Invalid, Skipped, Sorter, Tolerance
from saccade.model.events.types import Events

TIMEOUT_S: Final = 120.0
MSGPACK: Final = "application/msgpack"
PACKABLE: Final = Sensor(1 << 16, Y_LIMIT)
"""The events that a record can hold."""


@dataclass(frozen=True)
class Answer:
    """The class of one recording; None where it is too short for a tick.

    Attributes:
        label: The label with the largest score.
        confidence: The label's probability under a softmax, 0–1.
        events: How many events are in the scores.
        pending: How many events are in no score: less than a tick.
        logits: The scores, one a label.
        skipped: How many invalid events were left out.
        skipped_first: Why the first was, in words.
        error: Why the recording has no answer, where `partial` allows that.
    """

    label: str | None
    confidence: float | None
    events: int
    pending: int
    logits: list[float] | None
    skipped: int = 0
    skipped_first: str | None = None
    error: str | None = None


class ClassifyChoices(TypedDict, total=False):
    """Options of `classify`.

    sensor: the geometry of all recordings; by default the model's own.
    fit: what to do where it is not the model's: `reject`, `scale` or `crop`.
    invalid: `reject` refuses a recording that holds an event outside the sensor or out
        of order; `skip` leaves the event out, and counts it in the answer.
    sort_within_us: events that are late by no more are put in order before.
    half_life_ms: the scores forget with this half-life; by default never.
    partial: whether a recording that cannot be scored has an `error` in its answer;
        by default the first such refuses the request.
    options, clock_bits: how files are read: see `open_recording`.
    key: the API key; by default that of the environment's SACCADE_KEY.
    """

    sensor: SensorLike | None
    fit: Fit
    invalid: Invalid
    sort_within_us: int
    half_life_ms: float | None
    partial: bool
    options: ReadOptions
    clock_bits: int | None
    key: str | None


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
    **choices: Unpack[ClassifyChoices],
) -> list[Answer]:
    """Classify whole recordings, all in one request.

    Args:
        url: The server's address.
        model: The name of a served model.
        recordings: Each recording's events, in any form that `Stream.send` takes, in
            time order, all of one sensor and at most 71 minutes each; or the path of
            each recording's file, which the server reads.
        **choices: See `ClassifyChoices`.

    Raises:
        ServerUnreachable: No server answers at `url`.
        RequestRefused: The server refused the request or one of the recordings.
        EventNotPackable: A recording is too long for one request.
        EventsError: A recording holds no events, or some that cannot be sent.
        InvalidChoice: `recordings` is one recording and no list of them, or a choice
            is none.
    """
    unknown = choices.keys() - ClassifyChoices.__annotations__.keys()
    if unknown:
        raise InvalidChoice(min(unknown), "is no choice of `classify`")
    if hasattr(recordings, "dtype") or isinstance(recordings, Mapping):
        raise InvalidChoice("recordings", "give a list of recordings: [events]")
    if any(isinstance(given, Path) for given in recordings):
        return _classify_files(url, model, recordings, choices)
    return _classify_events(url, model, recordings, choices)


def _classify_events(
    url: str, model: str, recordings: Sequence[Any], choices: ClassifyChoices
) -> list[Answer]:
    """Send recordings' events, packed."""
    sensor = choices.get("sensor")
    prepared = [_prepared(given, choices) for given in recordings]
    body: dict[str, Any] = {
        "model": model,
        "sensor": None if sensor is None else list(astuple(to_sensor(sensor))),
        "fit": choices.get("fit", "reject"),
        "recordings": [{"data": _packed(events)} for events, _ in prepared],
    }
    if choices.get("invalid", "reject") != "reject":
        body["invalid"] = choices["invalid"]
    for name in ("half_life_ms", "partial"):  # an older server knows neither
        if choices.get(name):
            body[name] = choices[name]
    with _client(url, choices.get("key")) as client:
        response = client.post(
            "/v1/classify",
            content=msgpack.packb(body),
            headers={"Content-Type": MSGPACK},
        )
        results = _checked(response).json()["results"]
    left_out = [skipped for _, skipped in prepared]
    return [_answer(*each) for each in zip(results, left_out, strict=True)]


def _classify_files(
    url: str, model: str, paths: Sequence[Any], choices: ClassifyChoices
) -> list[Answer]:
    """Send recordings' files, which are read as they are sent."""
    if not all(isinstance(path, Path) for path in paths):
        raise InvalidChoice("recordings", "give paths of files alone, or events alone")
    with ExitStack() as stack:
        try:
            files = [stack.enter_context(path.open("rb")) for path in paths]
        except OSError as error:
            reason = error.strerror or str(error)
            raise MalformedRecording(Path(error.filename), reason) from error
        client = stack.enter_context(_client(url, choices.get("key")))
        named = zip(paths, files, strict=True)
        response = client.post(
            "/v1/classify",
            data={"model": model, **_fields(choices)},
            files=[("recordings", (path.name, file)) for path, file in named],
        )
        results = _checked(response).json()["results"]
    return [_answer(result, Skipped()) for result in results]


def _fields(choices: ClassifyChoices) -> dict[str, str]:
    """Return the text fields of a form of files."""
    options = choices.get("options", ReadOptions())
    sensor = choices.get("sensor") or options.sensor
    given = {name: choices.get(name) for name in FORM_FIELDS}
    given |= {
        "partial": str(choices.get("partial", False)).lower(),
        "sensor": sensor and "x".join(map(str, astuple(to_sensor(sensor)))),
        "columns": options.columns and ",".join(options.columns),
        "chip": options.chip,
        "camera": options.camera,
        "truncated": options.truncated,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


FORM_FIELDS: Final = ("fit", "invalid", "sort_within_us", "half_life_ms", "clock_bits")
"""The choices that are fields of a form by the same names."""


def _answer(result: dict[str, Any], skipped: Skipped) -> Answer:
    """Return a recording's answer; `skipped` was left out before it was sent."""
    names = [field.name for field in fields(Answer) if field.name in result]
    problem = result.get("problem")
    answer = Answer(
        **{name: result[name] for name in names},
        error=problem["detail"] if problem else None,
    )
    first = skipped.first or answer.skipped_first
    return replace(answer, skipped=answer.skipped + skipped.events, skipped_first=first)


def _prepared(given: Any, choices: ClassifyChoices) -> tuple[Events, Skipped]:
    """Return a recording's events as they are sent, and what cannot be."""
    skips = choices.get("invalid", "reject") == "skip"
    sorter = Sorter(choices.get("sort_within_us", 0))
    events, beyond = to_packable(given) if skips else (to_events(given), 0)
    events = np.concatenate([sorter.take(events), sorter.rest()])
    if not skips:
        return events, Skipped()
    tolerance = Tolerance(PACKABLE, "skip")
    kept = tolerance.take(events)
    first = "an event that no record can hold" if beyond else tolerance.skipped.first
    return kept, Skipped(beyond + tolerance.skipped.events, first)


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
            verify=tls_context(base) or _no_authorities(),
        ) as client:
            yield client
    except (httpx.TransportError, OSError) as error:
        raise ServerUnreachable(url, str(error) or type(error).__name__) from error


def _no_authorities() -> ssl.SSLContext:
    """Return what trusts no certificate, for a server without TLS.

    httpx would read the certificates of all authorities, for 20 ms of each call.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


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
