"""Recordings as files in a request, on a real server: formats, and misuse."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from saccade.clients.commands import classify as command
from saccade.clients.errors import RequestRefused
from saccade.clients.http import classify
from saccade.model.events.errors import MalformedRecording
from saccade.model.events.fit import fit
from saccade.model.events.reading import ReadOptions
from saccade.model.events.recordings import open_recording
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.transport.uploads import FRESH_S, PREFIX, UploadFolder
from tests.model.events import foreign_files
from tests.toy import SENSOR, event_scores, some_events, wait_until

TABLE = b"t,x,y,p\n" + b"".join(
    b"%d,%d,%d,%d\n" % tuple(event) for event in some_events(41).tolist()
)
SCORE = event_scores(some_events(41))[-1]


def ask(server: Any, *files: tuple[str, bytes], **fields: Any) -> httpx.Response:
    """Send a form; `sensor` is the model's own unless the test says another."""
    fields = {"model": "toy", "sensor": "4x4"} | fields
    data = {name: value for name, value in fields.items() if value is not None}
    parts = [("recordings", each) for each in files]
    url = f"{server.base}/v1/classify"
    return httpx.post(url, data=data, files=parts or {"a": b""}, timeout=300)


def results(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def refusal(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_files_of_every_format_are_answered_in_one_request(
    server: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    events = np.zeros(3000, EVENT_DTYPE)
    events["t"] = np.cumsum(rng.integers(0, 40, len(events)))
    for field, limit in (("x", 128), ("y", 128), ("p", 2)):
        events[field] = rng.integers(0, limit, len(events))
    paths = []
    for number, name in enumerate(foreign_files.FORMATS):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(foreign_files.write(folder, name, events.copy()))
    sensor = foreign_files.SENSOR
    files = [(path.name, path.read_bytes()) for path in paths]
    answers = results(ask(server, *files, sensor=f"{sensor}", fit="scale"))
    for path, answer in zip(paths, answers, strict=True):
        assert answer["problem"] is None, path
        read = np.concatenate([*open_recording(path, sensor).events])
        fitted = fit(read, sensor, SENSOR, "scale")
        assert answer["events"] + answer["pending"] == len(read)
        assert answer["logits"][0] == pytest.approx(event_scores(fitted)[-1]), path
        assert (answer["name"], answer["sensor"]) == (path.name, sensor.to_list())


def test_what_cannot_be_read_has_a_problem_beside_the_answers(server: Any) -> None:
    files = [
        ("good.csv", TABLE),
        ("empty.csv", b""),
        ("notes.pdf", b"%PDF"),
        ("outside.csv", TABLE + b"9999,4,0,0\n"),
        ("backwards.csv", TABLE + b"3,0,0,0\n"),
        ("broken.npz", b"PK\x03\x04 and no more"),
        ("again.csv", TABLE),
    ]
    answers = results(ask(server, *files))
    codes = [each["problem"] and each["problem"]["code"] for each in answers]
    assert codes == [
        None,
        "unreadable_recording",
        "unsupported_format",
        "event_outside_sensor",
        "unsorted_events",
        "unreadable_recording",
        None,
    ]
    assert [each["name"] for each in answers] == [name for name, _ in files]
    assert answers[0] == answers[-1] | {"name": "good.csv"}
    assert answers[0]["logits"][0] == pytest.approx(SCORE)
    outside = answers[3]["problem"]
    assert (outside["recording"], outside["field"], outside["index"]) == (3, "x", 41)
    assert "recording 3 (outside.csv)" in outside["detail"]
    assert answers[3]["label"] is answers[3]["logits"] is None


def test_a_request_that_is_not_partial_is_refused_by_its_first_fault(
    server: Any,
) -> None:
    files = [("a.csv", TABLE), ("b.csv", b"")]
    response = ask(server, *files, partial="false")
    assert refusal(response) == (422, "unreadable_recording")
    assert response.json()["recording"] == 1


def test_a_request_in_memory_may_be_partial_too(server: Any) -> None:
    good = {n: some_events(41)[n].tolist() for n in "txyp"}
    bad = [good | {"t": good["t"][::-1]}, {"data": "AAA="}, good | {"p": [7] * 41}]
    body = {"model": "toy", "partial": True, "recordings": [good, *bad, good]}
    response = httpx.post(f"{server.base}/v1/classify", json=body, timeout=300)
    answers = results(response)
    codes = [each["problem"] and each["problem"]["code"] for each in answers]
    assert codes == [
        None, "unsorted_events", "malformed_events", "event_outside_sensor", None
    ]  # fmt: skip
    assert answers[0] == answers[-1]
    assert answers[0]["logits"][0] == pytest.approx(SCORE)


def test_the_same_request_has_the_same_answer(server: Any) -> None:
    files = [(f"{n}.csv", TABLE) for n in range(5)] + [("broken.npy", b"none")]
    first = ask(server, *files)
    assert ask(server, *files).json() == first.json()


@pytest.mark.parametrize(
    "name", ["a.CSV", "../../etc/a.csv", "C:\\data\\a.csv", "/a.csv", "é\x01.csv"]
)
def test_a_files_name_chooses_its_reader_and_nothing_else(
    server: Any, name: str
) -> None:
    (answer,) = results(ask(server, (name, TABLE)))
    assert answer["problem"] is None
    assert "/" not in answer["name"]
    assert "\\" not in answer["name"]


def test_the_format_of_all_files_may_be_said(server: Any) -> None:
    (answer,) = results(ask(server, ("a.raw", TABLE), format="csv"))
    assert answer["logits"][0] == pytest.approx(SCORE)
    (answer,) = results(ask(server, ("blob", TABLE), format="csv"))
    assert answer["logits"][0] == pytest.approx(SCORE)


def test_what_the_client_says_of_its_files_is_heeded(server: Any) -> None:
    headless = TABLE.partition(b"\n")[2]
    fields = {"format": "csv", "columns": "t, x, y, p", "invalid": "skip"}
    late = headless + b"3,0,0,0\n" + b"9999,9,0,0\n"
    (answer,) = results(ask(server, ("a", late), **fields))
    assert (answer["skipped"], answer["logits"][0]) == (2, pytest.approx(SCORE))
    assert "event 42 has x = 9" in answer["skipped_first"]
    (answer,) = results(ask(server, ("a.csv", TABLE), sensor=None))
    assert answer["sensor"] == [4, 4]
    (answer,) = results(ask(server, ("a.csv", TABLE), sensor="8x8"))
    assert answer["problem"]["code"] == "sensor_mismatch"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": None}, "model"),
        ({"format": "exe"}, "format"),
        ({"sensor": "4"}, "sensor"),
        ({"sensor": "0x4"}, "sensor"),
        ({"fit": "stretch"}, "fit"),
        ({"half_life_ms": "0"}, "half_life_ms"),
        ({"half_life_ms": "nan"}, "half_life_ms"),
        ({"clock_bits": "a"}, "clock_bits"),
        ({"partial": "perhaps"}, "partial"),
        ({"path": "/etc/passwd"}, "path"),
        ({"chip": "a" * 5000}, "chip"),
        ({"fit": ["scale", "crop"]}, "fit"),
    ],
)
def test_a_wrong_field_is_named(server: Any, fields: Any, field: str) -> None:
    response = ask(server, ("a.csv", TABLE), **fields)
    assert refusal(response) == (422, "invalid_field")
    assert response.json()["field"] == field


def test_a_form_without_files_or_of_no_known_model_is_refused(serve: Any) -> None:
    server = serve(max_recordings=2)
    url = f"{server.base}/v1/classify"
    only = httpx.post(url, files={"model": (None, "toy")})
    assert refusal(only) == (422, "empty_batch")
    no_file = {"model": (None, "toy"), "recordings": (None, TABLE)}
    assert refusal(httpx.post(url, files=no_file)) == (422, "invalid_field")
    unknown = ask(server, ("a.csv", TABLE), model="none")
    assert refusal(unknown) == (404, "unknown_model")
    many = ask(server, *[("a.csv", TABLE)] * 3)
    assert refusal(many) == (413, "batch_too_large")


FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ntoy\r\n'
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="recordings"; filename="a.csv"'
    b"\r\n\r\n" + TABLE + b"\r\n"
)
ENCODED = b"\r\nContent-Transfer-Encoding: base64\r\n\r\nt,"
WHOLE = PART + FILE + b"--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", WHOLE),
        ("multipart/form-data; boundary=" + "b" * 300, WHOLE),
        (FORM, b""),
        (FORM, PART + FILE),
        (FORM, b"no boundary at all"),
        (FORM, b"--b\r\nContent-Type: text/csv\r\n\r\na\r\n--b--\r\n"),
        (FORM, b"--b\r\n" + b"A: " + b"a" * 100_000 + b"\r\n\r\na\r\n--b--\r\n"),
        (FORM, b"--b\r\n" + b"A: a\r\n" * 10_000 + b"\r\na\r\n--b--\r\n"),
        (FORM, WHOLE.replace(b"\r\n\r\nt,", ENCODED)),
    ],
)
def test_a_malformed_form_is_refused(server: Any, kind: str, body: bytes) -> None:
    url = f"{server.base}/v1/classify"
    headers = {"Content-Type": kind}
    assert refusal(httpx.post(url, content=body, headers=headers)) == (
        400,
        "malformed_body",
    )


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_damaged_form_is_answered_or_refused(server: Any, data: Any) -> None:
    body = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    content = bytes(body[: data.draw(st.sampled_from([cut, len(body)]))])
    url = f"{server.base}/v1/classify"
    response = httpx.post(
        url, content=content, headers={"Content-Type": FORM}, timeout=300
    )
    assert response.status_code in {200, 400, 404, 413, 422}
    if response.status_code != 200:
        refusal(response)


def test_a_form_may_be_gzipped_and_its_size_is_that_of_what_it_unfolds_into(
    serve: Any,
) -> None:
    server = serve(max_upload_bytes=1 << 16)
    headers = {"Content-Type": FORM, "Content-Encoding": "gzip"}
    url = f"{server.base}/v1/classify"
    answer = httpx.post(url, content=gzip.compress(WHOLE), headers=headers, timeout=300)
    assert results(answer)[0]["logits"][0] == pytest.approx(SCORE)
    bomb = gzip.compress(PART + FILE + b"0" * (1 << 24))
    assert len(bomb) < 1 << 16
    refused = httpx.post(url, content=bomb, headers=headers, timeout=300)
    assert refusal(refused) == (413, "body_too_large")
    refused = ask(server, ("a.csv", b"0" * (1 << 16)))
    assert refusal(refused) == (413, "body_too_large")


def test_what_unfolds_into_too_many_events_is_refused(serve: Any) -> None:
    server = serve(max_request_events=100_000)
    content = io.BytesIO()
    np.savez_compressed(content, events=np.zeros(2_000_000, EVENT_DTYPE))
    bomb = content.getvalue()
    assert len(bomb) < 100_000
    found = results(ask(server, ("bomb.npz", bomb)))
    assert found[0]["problem"]["code"] == "too_many_events"
    assert results(ask(server, ("a.csv", TABLE)))[0]["problem"] is None


def test_uploads_beyond_the_room_for_all_are_put_off(serve: Any) -> None:
    server = serve(max_uploads_bytes=len(TABLE))
    refused = ask(server, ("a.csv", TABLE), ("b.csv", TABLE))
    assert refusal(refused) == (503, "uploads_full")
    assert refused.headers["retry-after"] == "1"
    assert server.service.uploads.used == 0


def test_a_client_that_is_silent_within_its_body_is_let_go(serve: Any) -> None:
    server = serve(open_s=0.2)
    host, port = server.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as client:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n"
        head += "Connection: close\r\n"
        client.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + PART)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    document = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert document["code"] == "request_timeout"
    wait_until(lambda: server.service.uploads.used == 0)


def test_a_client_that_leaves_takes_its_work_along(serve: Any) -> None:
    server = serve(key_requests=1, window_events=256, max_frame_bytes=2048)
    rows = b"".join(b"%d,0,0,0\n" % t for t in range(400_000))
    body = WHOLE.replace(TABLE, b"t,x,y,p\n" + rows)
    host, port = server.base.removeprefix("http://").split(":")
    head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: server.service.engine.slots_used("toy") > 0)
    wait_until(lambda: server.service.engine.slots_used("toy") == 0)
    wait_until(lambda: server.service.uploads.used == 0)
    assert results(ask(server, ("a.csv", TABLE)))[0]["problem"] is None


def test_the_sdk_sends_paths_as_files(server: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_bytes(TABLE)
    bad.write_bytes(TABLE + b"3,0,0,0\n")
    chosen: Any = {"options": ReadOptions(sensor=SENSOR)}
    (answer,) = classify(server.base, "toy", [good], **chosen)
    (same,) = classify(server.base, "toy", [some_events(41)])
    assert answer == same
    with pytest.raises(RequestRefused, match=r"recording 1 \(b.csv\)"):
        classify(server.base, "toy", [good, bad], **chosen)
    answers = classify(server.base, "toy", [good, bad], partial=True, **chosen)
    assert answers[0] == answer
    assert "follows one at" in (answers[1].error or "")
    with pytest.raises(MalformedRecording, match="No such file"):
        classify(server.base, "toy", [tmp_path / "none.csv"])


def test_the_command_sends_a_long_recording_as_a_file(
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "MOST_EVENTS", 40)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(TABLE)
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv", "a.csv")]
    arguments = [*files, "--url", server.base, "--model", "toy", "--json"]
    options = command.parser().parse_args([*arguments, "--sensor", "4x4"])
    assert command.execute(options) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == files
    assert [row["logits"][0] for row in rows] == pytest.approx([SCORE] * 3)


async def test_what_a_killed_process_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(f"{UploadFolder.__module__}.FRESH_S", -FRESH_S)
    living, other = UploadFolder(1000), UploadFolder(1000)
    async with living.upload() as upload:
        (upload.path / "a.csv").write_bytes(TABLE)
        abandoned = tmp_path / f"{PREFIX}dead"
        abandoned.mkdir()
        (abandoned / "lock").touch()
        async with other.upload():
            assert not abandoned.exists()
            assert (upload.path / "a.csv").exists()
    living.close()
    other.close()
    assert not os.listdir(tmp_path)


def test_many_events_go_through_in_bounded_pieces(server: Any) -> None:
    events: Events = some_events(200_000)
    content = io.BytesIO()
    np.save(content, events)
    (answer,) = results(ask(server, ("a.npy", content.getvalue())))
    assert answer["ticks"] == 100_000
    assert answer["logits"][0] == pytest.approx(event_scores(events)[-1])
