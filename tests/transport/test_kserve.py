"""KServe's protocol on a real server: metadata, JSON, raw tensors, and tritonclient."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import numpy as np
import pytest

from saccade.model.events.encodings.packed import pack
from saccade.model.events.types import Events
from saccade.server.transport.auth import digest_of, new_key
from tests.toy import event_scores, some_events

RECORDINGS = [some_events(n, seed=n) for n in (10, 41, 1, 0)]
ROWS = np.concatenate(RECORDINGS)
OFFSETS = [0, 10, 51, 52, 52]


def matrix(events: Events) -> Any:
    return np.stack([events[name].astype("<i8") for name in "txyp"], axis=1)


def tensor(name: str, datatype: str, values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(array.shape),
        "data": array.tolist(),
    }


BATCH = {
    "id": "7",
    "inputs": [
        tensor("events", "INT64", matrix(ROWS)),
        tensor("offsets", "INT64", OFFSETS),
    ],
}


def infer(server: Any, body: Any, path: str = "/v2/models/toy") -> httpx.Response:
    return httpx.post(f"{server.base}{path}/infer", json=body, timeout=300)


def values(answer: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["data"] for each in answer["outputs"]}


def classified(server: Any) -> list[dict[str, Any]]:
    body = {"model": "toy", "recordings": []}
    body["recordings"] = [
        {name: each[name].tolist() for name in "txyp"} for each in RECORDINGS
    ]
    response = httpx.post(f"{server.base}/v1/classify", json=body, timeout=300)
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def test_server_and_model_describe_themselves(server: Any) -> None:
    about = httpx.get(f"{server.base}/v2").json()
    assert about["name"] == "saccade"
    assert about["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/toy/ready"):
        assert httpx.get(server.base + path).status_code == 200
    model = httpx.get(f"{server.base}/v2/models/toy").json()
    assert model["versions"] == ["0123abcd"]
    assert httpx.get(f"{server.base}/v2/models/toy/versions/0123abcd").json() == model
    outputs = {each["name"]: each["shape"] for each in model["outputs"]}
    assert outputs["logits"] == [-1, 2]
    for path in ("/v2/models/none", "/v2/models/toy/versions/1", "/v2/models/x/ready"):
        refused = httpx.get(server.base + path)
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_model")
        assert refused.json()["error"] == refused.json()["detail"]


def test_a_ragged_batch_has_the_scores_of_classify(server: Any) -> None:
    answer = infer(server, BATCH).json()
    assert (answer["id"], answer["model_version"]) == ("7", "0123abcd")
    found, wanted = values(answer), classified(server)
    logits = np.reshape(np.array(found["logits"], float), (4, 2))
    for at, result in enumerate(wanted):
        assert (found["label"][at] or None) == result["label"]
        assert found["pending"][at] == result["pending"]
        assert found["ticks"][at] == result["ticks"]
        if result["logits"] is None:
            assert np.isnan(logits[at]).all()
        else:
            assert logits[at].tolist() == result["logits"]
    assert logits[1][0] == pytest.approx(event_scores(RECORDINGS[1])[-1])


def test_packed_rows_and_flat_data_have_the_same_scores(server: Any) -> None:
    wanted = values(infer(server, BATCH).json())
    packed = [np.frombuffer(pack(each, 0), "u1") for each in RECORDINGS]
    records = tensor("packed", "UINT8", np.concatenate(packed).reshape(-1, 8))
    offsets = BATCH["inputs"][1]
    assert values(infer(server, {"inputs": [records, offsets]}).json()) == wanted
    flat = tensor("events", "INT64", matrix(ROWS))
    flat["data"] = matrix(ROWS).ravel().tolist()
    assert values(infer(server, {"inputs": [flat, offsets]}).json()) == wanted


def raw_request(head: dict[str, Any], *tensors: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": f"{len(text)}"}
    return b"".join([text, *tensors]), headers


def test_tensors_travel_as_raw_bytes_both_ways(server: Any) -> None:
    raw = matrix(RECORDINGS[1]).astype("<i8").tobytes()
    inputs = tensor("events", "INT64", matrix(RECORDINGS[1])) | {
        "parameters": {"binary_data_size": len(raw)}
    }
    del inputs["data"]
    outputs = [
        {"name": "logits", "parameters": {"binary_data": True}},
        {"name": "events"},
        {"name": "label", "parameters": {"binary_data": True}},
    ]
    body, headers = raw_request({"inputs": [inputs], "outputs": outputs}, raw)
    url = f"{server.base}/v2/models/toy/infer"
    answer = httpx.post(url, content=body, headers=headers, timeout=300)
    length = int(answer.headers["inference-header-content-length"])
    head, rest = json.loads(answer.content[:length]), answer.content[length:]
    assert [each["name"] for each in head["outputs"]] == ["logits", "events", "label"]
    assert struct.unpack("<2f", rest[:8])[0] == pytest.approx(
        event_scores(RECORDINGS[1])[-1]
    )
    assert rest[8:] == b"\x02\x00\x00\x00up"
    assert head["outputs"][1]["data"] == [40]
    assert head["outputs"][2]["parameters"] == {"binary_data_size": 6}


GOOD = tensor("events", "INT64", matrix(some_events(4)))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "inputs"),
        ({"inputs": [GOOD], "more": 1}, "more"),
        ({"inputs": [GOOD | {"name": "image"}]}, "inputs[0].name"),
        ({"inputs": [GOOD | {"datatype": "FP32"}]}, "inputs[0].datatype"),
        ({"inputs": [GOOD | {"shape": [4, 3]}]}, "events"),
        ({"inputs": [GOOD | {"shape": [5, 4]}]}, "events"),
        ({"inputs": [GOOD | {"data": [[0, 0, 0, 0.5]] * 4}]}, "events"),
        ({"inputs": [GOOD | {"data": [[0, 0, 0, 2**63]] * 4}]}, "events"),
        ({"inputs": [GOOD | {"data": [[[0]]] * 16}]}, "events"),
        ({"inputs": [GOOD, GOOD]}, "events"),
        ({"inputs": [tensor("offsets", "INT64", [0, 4])]}, "inputs"),
        ({"inputs": [GOOD, tensor("offsets", "INT64", [0, 3])]}, "offsets"),
        ({"inputs": [GOOD, tensor("offsets", "INT64", [0, 3, 2, 4])]}, "offsets"),
        ({"inputs": [GOOD, tensor("offsets", "INT64", [])]}, "offsets"),
        ({"inputs": [GOOD], "outputs": [{"name": "boxes"}]}, "outputs"),
        ({"inputs": [GOOD], "parameters": {"sequence_id": 3}}, "sequence_id"),
        ({"inputs": [GOOD], "parameters": {"sensor": "4"}}, "sensor"),
        ({"inputs": [GOOD], "parameters": {"model": "x", "fit": "no"}}, "fit"),
    ],
)
def test_a_wrong_request_is_refused_and_the_field_named(
    server: Any, body: Any, field: str
) -> None:
    refused = infer(server, body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_field")
    assert refused.json()["field"] == field
    assert refused.json()["error"] == refused.json()["detail"]


def test_recordings_that_do_not_pass_are_named(server: Any) -> None:
    rows = matrix(ROWS)
    rows[20, 1] = 4
    inputs = [tensor("events", "INT64", rows), BATCH["inputs"][1]]
    refused = infer(server, {"inputs": inputs}).json()
    assert (refused["code"], refused["recording"]) == ("event_outside_sensor", 1)
    body = {"inputs": inputs, "parameters": {"invalid": "skip"}}
    assert values(infer(server, body).json())["skipped"] == [0, 1, 0, 0]


@pytest.mark.parametrize("body", [7, "a", [], None])
def test_a_body_that_is_no_map_is_refused(server: Any, body: Any) -> None:
    refused = infer(server, body)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("length", ["-1", "1000000", "a"])
def test_a_wrong_length_of_the_map_is_refused(server: Any, length: str) -> None:
    url = f"{server.base}/v2/models/toy/infer"
    headers = {"Inference-Header-Content-Length": length}
    refused = httpx.post(url, content=b"{}", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_body")


def test_raw_bytes_that_are_not_announced_or_not_there_are_refused(server: Any) -> None:
    raw = matrix(some_events(4)).tobytes()
    inputs = {k: v for k, v in GOOD.items() if k != "data"}
    url = f"{server.base}/v2/models/toy/infer"
    for size, sent in ((128, raw[:-1]), (128, raw + b"x"), (127, raw[:-1])):
        head = {"inputs": [inputs | {"parameters": {"binary_data_size": size}}]}
        body, headers = raw_request(head, sent)
        refused = httpx.post(url, content=body, headers=headers)
        assert refused.status_code in {400, 422}
        assert refused.json()["code"] in {"malformed_body", "invalid_field"}


def test_a_key_and_its_limits_hold_as_for_classify(serve: Any) -> None:
    key = new_key()
    server = serve(keys=(f"ann:{digest_of(key)}",), max_recordings=3)
    refused = infer(server, BATCH)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
    assert refused.json()["error"]
    url = f"{server.base}/v2/models/toy/infer"
    headers = {"Authorization": f"Bearer {key}"}
    refused = httpx.post(url, json=BATCH, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "batch_too_large")
    assert httpx.get(f"{server.base}/v2/health/ready").status_code == 200


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "raw"])
def test_tritonclient_gets_metadata_and_infers(server: Any, binary: bool) -> None:
    from tritonclient import http

    with http.InferenceServerClient(server.base.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("toy")
        assert client.get_server_metadata()["name"] == "saccade"
        assert client.get_model_metadata("toy", "0123abcd")["name"] == "toy"
        events = http.InferInput("events", [len(ROWS), 4], "INT64")
        events.set_data_from_numpy(matrix(ROWS), binary_data=binary)
        offsets = http.InferInput("offsets", [len(OFFSETS)], "INT64")
        offsets.set_data_from_numpy(np.array(OFFSETS, "i8"), binary_data=binary)
        names = ("logits", "label", "ticks")
        wanted = [http.InferRequestedOutput(n, binary_data=binary) for n in names]
        result = client.infer("toy", [events, offsets], outputs=wanted, request_id="7")
        logits, label = result.as_numpy("logits"), result.as_numpy("label")
        assert logits[1].tolist() == classified(server)[1]["logits"]
        assert np.isnan(logits[2:]).all()
        assert [each.decode() if binary else each for each in label][:2] == ["up"] * 2
        assert result.as_numpy("ticks").tolist() == [5, 20, 0, 0]
        everything = client.infer("toy", [events, offsets])
        assert everything.as_numpy("logits")[1].tolist() == logits[1].tolist()
        with pytest.raises(http.InferenceServerException, match="no model is named"):
            client.get_model_metadata("none")
