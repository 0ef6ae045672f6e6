from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import msgpack
import pytest
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from saccade.server.transport.classify_bodies import ClassifyRequest, parse_body
from saccade.server.transport.problems import Problem
from tests.toy import event_scores, some_events, toy_advance, toy_model, wait_until


def columns(events: Events) -> dict[str, list[int]]:
    return {name: events[name].tolist() for name in ("t", "x", "y", "p")}


def post(server: Any, body: Any, **options: Any) -> httpx.Response:
    headers = {"Content-Type": "application/json", **options}
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    url = f"{server.base}/v1/classify"
    return httpx.post(url, content=content, headers=headers, timeout=300)


def problem(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert {"type", "title", "status", "detail", "code"} <= set(document)
    assert document["status"] == response.status_code
    return document


def test_a_batch_of_recordings_is_classified(server: Any) -> None:
    recordings = [some_events(n, seed=n) for n in (10, 41, 1, 0)]
    body = {"model": "toy", "recordings": [columns(events) for events in recordings]}
    answer = post(server, body).json()
    assert answer["labels"] == ["up", "down"]
    for events, result in zip(recordings, answer["results"], strict=True):
        ticks, pending = divmod(len(events), 2)
        assert (result["ticks"], result["pending"]) == (ticks, pending)
        assert result["events"] == 2 * ticks
        if ticks:
            assert result["logits"][0] == pytest.approx(event_scores(events)[-1])
            assert result["label"] == "up"
            assert 0.5 < result["confidence"] <= 1
        else:
            assert result["label"] is result["logits"] is None


def test_msgpack_and_packed_records_give_the_same_scores(server: Any) -> None:
    events = some_events(100, seed=9)
    raw = {"model": "toy", "recordings": [{"data": pack(events, 0)}, columns(events)]}
    answer = post(
        server, msgpack.packb(raw), **{"Content-Type": "application/msgpack"}
    ).json()
    packed, listed = answer["results"]
    assert packed == listed
    assert packed["logits"][0] == pytest.approx(event_scores(events)[-1])


def test_rest_and_the_websocket_agree_to_the_bit(server: Any) -> None:
    events = some_events(1001, seed=3)
    body = {"model": "toy", "recordings": [columns(events)]}
    result = post(server, body).json()["results"][0]
    with server.client() as client:
        client.open()
        for start in range(0, 1001, 100):
            client.send(events[start : start + 100])
        closed = client.finish()
    assert result["logits"] == closed.logits
    assert result["confidence"] == closed.confidence


def test_a_long_recording_goes_through_in_windows(serve: Any) -> None:
    server = serve(window_events=256, window_bytes=1 << 14, max_frame_bytes=2048)
    events = some_events(5000)
    body = {"model": "toy", "recordings": [columns(events)] * 10}
    answer = post(server, body).json()
    assert [result["ticks"] for result in answer["results"]] == [2500] * 10
    assert server.service.engine.slots_used("toy") == 0


GOOD = columns(some_events(4))
REFUSED = [
    ("unknown_model", 404, {"model": "none", "recordings": [GOOD]}, {"field": "model"}),
    ("empty_batch", 422, {"model": "toy", "recordings": []}, {"field": "recordings"}),
    ("invalid_field", 422, {"recordings": [GOOD]}, {"field": "model"}),
    ("invalid_field", 422, {"model": "toy"}, {"field": "recordings"}),
    ("invalid_field", 422, {"model": "toy", "recordings": [GOOD], "a": 1},
     {"field": "a"}),
    ("invalid_field", 422, {"model": "toy", "recordings": [{**GOOD, "q": [1]}]},
     {"field": "recordings[0].q"}),
    ("invalid_field", 422, {"model": 7, "recordings": [GOOD]},
     {"field": "model", "value": 7}),
    ("invalid_field", 422, {"model": "toy", "recordings": [3]},
     {"field": "recordings[0]"}),
    ("invalid_field", 422, {"model": "toy", "recordings": [{**GOOD, "p": [1]}]},
     {"field": "recordings[0]"}),
    ("invalid_field", 422,
     {"model": "toy", "recordings": [GOOD, {**GOOD, "x": [0, 1.5, 2, 3]}]},
     {"field": "recordings[1].x", "index": 1, "value": 1.5}),
    ("invalid_field", 422,
     {"model": "toy", "recordings": [{**GOOD, "t": [0, 1, float("nan"), 3]}]},
     {"field": "recordings[0].t", "index": 2, "value": "nan"}),
    ("invalid_field", 422,
     {"model": "toy", "recordings": [{**GOOD, "y": [0, 1, True, 3]}]},
     {"field": "recordings[0].y", "index": 2, "value": True}),
    ("invalid_field", 422,
     {"model": "toy", "recordings": [{**GOOD, "t": [0, 2**63, 2, 3]}]},
     {"field": "recordings[0].t", "index": 1, "value": str(2**63)}),
    ("event_outside_sensor", 422,
     {"model": "toy", "recordings": [{**GOOD, "p": [0, 2, 0, 0]}]},
     {"recording": 0, "field": "p", "index": 1, "value": 2}),
    ("event_outside_sensor", 422,
     {"model": "toy", "recordings": [GOOD, {**GOOD, "x": [0, 0, 0, 4]}]},
     {"recording": 1, "field": "x", "index": 3, "value": 4}),
    ("event_outside_sensor", 422,
     {"model": "toy", "recordings": [{**GOOD, "y": [-1, 0, 0, 0]}]},
     {"field": "y", "index": 0, "value": -1}),
    ("unsorted_events", 422,
     {"model": "toy", "recordings": [{**GOOD, "t": [5, 4, 5, 6]}]},
     {"index": 1, "value": 4, "recording": 0}),
    ("sensor_mismatch", 422,
     {"model": "toy", "sensor": [9, 9], "recordings": [GOOD]}, {}),
    ("invalid_field", 422,
     {"model": "toy", "sensor": [0, 9], "recordings": [GOOD]}, {"field": "sensor"}),
    ("invalid_field", 422,
     {"model": "toy", "sensor": "4x4", "recordings": [GOOD]}, {"field": "sensor"}),
    ("invalid_field", 422,
     {"model": "toy", "sensor": [4.0, 4], "recordings": [GOOD]}, {"field": "sensor"}),
    ("invalid_field", 422,
     {"model": "toy", "fit": "stretch", "recordings": [GOOD]}, {"field": "fit"}),
    ("malformed_events", 422,
     {"model": "toy", "recordings": [{"data": "AAAA"}]}, {"recording": 0}),
    ("invalid_field", 422,
     {"model": "toy", "recordings": [{"data": "?"}]}, {"field": "recordings[0].data"}),
    ("malformed_body", 400, "{", {}),
    ("malformed_body", 400, "[]", {}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status", "body", "facts"), REFUSED)
def test_bad_input_is_a_problem_that_names_the_place(
    server: Any, code: str, status: int, body: Any, facts: dict[str, Any]
) -> None:
    response = post(server, body)
    document = problem(response)
    assert (document["code"], response.status_code) == (code, status)
    for name, value in facts.items():
        assert document[name] == value
    assert server.service.engine.slots_used("toy") == 0


UNREADABLE = [body for _, _, body, _ in REFUSED if isinstance(body, dict)]


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_msgpack_body_has_the_problem_of_the_same_json_body(body: Any) -> None:
    def outcome(media_type: str, content: bytes) -> tuple[Any, ...]:
        try:
            request, recordings = parse_body(media_type, content, 256)
        except Problem as refusal:
            return refusal.code, refusal.detail, str(refusal.facts)
        return repr(request), *(events.tolist() for events in recordings)

    json_outcome = outcome("application/json", json.dumps(body).encode())
    assert outcome("application/msgpack", msgpack.packb(body)) == json_outcome


@pytest.mark.parametrize(
    "body",
    [
        {**{f"a{n}": n for n in range(1000)}, "model": "toy", "recordings": [GOOD]},
        {"model": "toy", "recordings": [{f"a{n}": n for n in range(1000)}]},
        {"model": "toy", "recordings": [{**GOOD, "x": [None] * 1000}]},
        {"model": "toy", "recordings": [None] * 1000},
    ],
    ids=["fields", "a recording's fields", "elements", "recordings"],
)
def test_a_thousand_faults_cost_no_more_than_the_first(body: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        ClassifyRequest.model_validate(body)
    assert caught.value.error_count() == 1


def test_an_unknown_media_type_is_a_problem(server: Any) -> None:
    response = post(server, "x", **{"Content-Type": "text/plain"})
    assert problem(response)["code"] == "unsupported_media_type"
    assert response.status_code == 415


def test_a_body_or_a_batch_over_its_limit_is_refused(serve: Any) -> None:
    server = serve(max_body_bytes=1000, max_recordings=2)
    response = post(server, " " * 1001)
    assert (problem(response)["code"], response.status_code) == ("body_too_large", 413)
    body = {"model": "toy", "recordings": [{"data": ""}] * 3}
    response = post(server, body)
    assert (problem(response)["code"], response.status_code) == ("batch_too_large", 413)


def test_a_route_that_is_not_there_is_a_problem(server: Any) -> None:
    assert problem(httpx.get(f"{server.base}/v9"))["code"] == "no_such_route"
    wrong = httpx.get(f"{server.base}/v1/classify")
    assert problem(wrong)["code"] == "method_not_allowed"


def test_a_server_without_a_free_slot_says_so(serve: Any) -> None:
    server = serve(slots=1, sessions=1)
    with server.client() as client:
        client.open()
        response = post(server, {"model": "toy", "recordings": [GOOD]})
        assert problem(response)["code"] == "slots_exhausted"
        assert response.headers["retry-after"] == "1"


def test_the_models_are_listed(server: Any) -> None:
    (model,) = httpx.get(f"{server.base}/v1/models").json()["models"]
    assert model == {
        "model": "toy",
        "model_hash": "0123abcd",
        "labels": ["up", "down"],
        "sensor": [4, 4],
        "tick_events": 2,
        "state": "ready",
        "matmul_precision": "float32",
        "canary_error": 0.0,
    }


def test_readiness_waits_for_the_compiler_and_health_does_not(serve: Any) -> None:
    gate = threading.Event()

    def slow(*arguments: Any) -> Any:
        gate.wait(20)
        return toy_advance(*arguments)

    server = serve(toy_model(advance=slow), wait=lambda _: True)
    try:
        assert httpx.get(f"{server.base}/healthz").status_code == 200
        waiting = httpx.get(f"{server.base}/readyz")
        assert waiting.status_code == 503
        assert "compiling" in waiting.json()["reason"]
    finally:
        gate.set()
    wait_until(lambda: httpx.get(f"{server.base}/readyz").status_code == 200)


def test_a_refused_model_turns_both_probes_red(serve: Any) -> None:
    server = serve(toy_model(wrong_by=1.0), wait=lambda _: True)
    wait_until(lambda: server.service.engine.health.failed)
    for probe in ("healthz", "readyz"):
        response = httpx.get(f"{server.base}/{probe}")
        assert response.status_code == 503
        assert "bucket 1x1 on cpu, jaxlib" in response.json()["reason"]


def test_the_metrics_count_what_happened(serve: Any) -> None:
    server = serve()
    with server.client() as client:
        client.open()
        client.send(some_events(21))
        client.finish()
        post(server, {"model": "toy", "recordings": [GOOD]})
        text = httpx.get(f"{server.base}/metrics").text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    expected = {
        "events_received_total": 25,
        "events_scored_total": 24,
        "ticks_total": 12,
        "sessions_total": 1,
        "recordings_total": 1,
        "queue_ticks": 0,
    }
    for name, value in expected.items():
        assert float(samples[f'saccade_{name}{{model="toy"}}']) == value
    assert float(samples['saccade_batches_total{model="toy"}']) >= 2
    assert float(samples['saccade_compile_seconds{model="toy"}']) > 0
    assert float(samples['saccade_batch_seconds_count{model="toy"}']) >= 2


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/models", "/metrics"])
def test_the_head_of_an_answer_can_be_asked_for(server: Any, path: str) -> None:
    answer = httpx.head(server.base + path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_request_for_the_websocket_is_told_to_upgrade(server: Any) -> None:
    answer = httpx.get(f"{server.base}/v1/stream")
    assert problem(answer)["code"] == "upgrade_required"
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")


def test_a_websocket_elsewhere_is_told_where_it_is(server: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.base.replace("http", "ws") + "/v1/streams")
    response = refused.value.response
    document = json.loads(response.body or b"")
    assert (response.status_code, document["code"]) == (404, "no_such_route")
    assert "/v1/stream" in document["detail"]


def test_a_stray_event_costs_a_recording_itself_alone(server: Any) -> None:
    events = some_events(41)
    body = {"model": "toy", "recordings": [columns(events), columns(events[:4])]}
    wanted = post(server, body).json()["results"]
    stray = columns(events)
    for name, value in {"t": 0, "x": -1, "y": 70_000, "p": 9}.items():
        for place in (5, 20):
            for other in stray:
                value_there = stray[other][place]
                stray[other].insert(place, value if other == name else value_there)
    body["recordings"][0] = stray
    assert problem(post(server, body))["code"] == "event_outside_sensor"
    found = post(server, body | {"invalid": "skip"}).json()["results"]
    first = found[0].pop("skipped_first")
    assert "event 5 has" in first
    assert found[0].pop("skipped") == 8
    assert found[0] | {"skipped": 0, "skipped_first": None} == wanted[0]
    assert found[1] == wanted[1]


def test_a_recording_that_is_a_little_unsorted_is_sorted(server: Any) -> None:
    events = some_events(40)
    events["t"] = range(40)
    body = {"model": "toy", "recordings": [columns(events)]}
    wanted = post(server, body).json()["results"]
    events[[10, 11, 12]] = events[[12, 11, 10]]
    body = {"model": "toy", "recordings": [columns(events)]}
    assert problem(post(server, body))["code"] == "unsorted_events"
    assert post(server, body | {"sort_within_us": 2}).json()["results"] == wanted
