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
        "recordings",
    }
    refusals = {int(status) for status in route["responses"]} - {200}
    assert refusals == {400, 401, 403, 404, 413, 415, 422, 429, 500, 503}


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
            body = route["requestBody"]["content"]["application/json"]["schema"]
            body["properties"]["model"]["enum"] = ["toy"]
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        command = Path(sys.executable).with_name("schemathesis")
        arguments = [
            *("run", str(tmp_path / "openapi.json"), "--url", server.base),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "80"),
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
