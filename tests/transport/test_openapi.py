"""What `/openapi.json` says is what the routes do, whatever they are sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.transport.conftest import serving


def described(server: Any) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(f"{server.base}/openapi.json").json()
    return document


def test_the_body_of_a_request_and_every_refusal_are_described(server: Any) -> None:
    route = described(server)["paths"]["/v1/classify"]["post"]
    schema = route["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {
        "model",
        "sensor",
        "fit",
        "invalid",
        "sort_within_us",
        "half_life_ms",
        "partial",
        "recordings",
    }
    refusals = {int(status) for status in route["responses"]} - {200}
    assert refusals == {400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503}


def test_every_example_is_answered_as_its_summary_says(server: Any) -> None:
    route = described(server)["paths"]["/v1/classify"]["post"]
    content = route["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    for media_type, described_body in content.items():
        for name, example in described_body["examples"].items():
            response = send(server, media_type, example["value"])
            assert response.status_code == 200, (name, response.text)
            results = response.json()["results"]
            assert len(results) == len(example["value"]["recordings"])
            faults = [each["problem"] is not None for each in results]
            assert faults == (
                [False, True] if name == "partial" else [False] * len(faults)
            )


def test_every_example_of_tensors_is_answered(server: Any) -> None:
    paths = described(server)["paths"]
    infers = [path for path in paths if path.endswith("/infer")]
    assert len(infers) == 2
    for path in infers:
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        assert content["examples"]
        for example in content["examples"].values():
            url = server.base + path.format(model="toy", version="0123abcd")
            response = httpx.post(url, json=example["value"], timeout=300)
            assert response.status_code == 200, response.text
            tensors = {each["name"]: each for each in response.json()["outputs"]}
            wanted = len(example["value"]["inputs"])
            assert len(tensors["label"]["data"]) == wanted
            if "outputs" in example["value"]:
                assert [*tensors] == ["label"]


def test_every_route_refuses_a_method_that_it_lacks_with_a_problem(server: Any) -> None:
    for path, routes in described(server)["paths"].items():
        answer = httpx.request("PATCH", server.base + path)
        assert answer.status_code == 405, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert {*answer.headers["allow"].lower().split(", ")} >= {*routes}
        assert answer.json()["code"] == "method_not_allowed"
    for path in ("/none", "/v1/none", "/v2/none", "/web/none.js"):
        answer = httpx.get(server.base + path)
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_fault_of_the_server_is_a_problem_that_says_no_more(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()

    def fail(name: str) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(server.service, "model", fail)
    body = {"model": "toy", "recordings": [{"data": ""}]}
    for path in ("/v1/classify", "/v2/models/toy/infer"):
        answer = httpx.post(server.base + path, json=body, timeout=300)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "internal_error"
        assert "secret" not in answer.text


def send(server: Any, media_type: str, body: dict[str, Any]) -> httpx.Response:
    url = f"{server.base}/v1/classify"
    if media_type == "application/json":
        return httpx.post(url, json=body, timeout=300)
    texts = {name: body[name] for name in body if name != "recordings"}
    files = [("recordings", ("a", text.encode())) for text in body["recordings"]]
    return httpx.post(url, data=texts, files=files, timeout=300)


def test_a_method_that_a_route_lacks_is_answered_with_those_it_has(server: Any) -> None:
    answer = httpx.delete(f"{server.base}/v1/classify")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["code"] == "method_not_allowed"
    answer = httpx.post(f"{server.base}/v1/sessions/none")
    assert answer.headers["allow"] == "DELETE, GET"
    assert "allow" not in httpx.get(f"{server.base}/v1/nothing").headers


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True], ids=["any model", "the model"])
def test_schemathesis_finds_no_fault(named: bool, tmp_path: Path) -> None:
    with serving() as server:
        document = described(server)
        if named:  # few requests would get beyond that, otherwise
            route = document["paths"]["/v1/classify"]["post"]
            for body in route["requestBody"]["content"].values():
                body["schema"]["properties"]["model"]["enum"] = ["toy"]
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        command = Path(sys.executable).with_name("schemathesis")
        arguments = [
            *("run", str(tmp_path / "openapi.json"), "--url", server.base),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "40"),
            *("--checks", "all", "--seed", "5", "--continue-on-failure"),
            # Columns of different lengths, say, are beyond what a schema can forbid.
            *("--exclude-checks", "positive_data_acceptance"),
        ]
        found = subprocess.run(
            [command, *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout
        assert " 0 generated" not in found.stdout
        assert server.service.engine.health.ready
