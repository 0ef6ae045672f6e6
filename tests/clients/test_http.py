from __future__ import annotations

import http.server
import json
import ssl
import threading

import msgpack
import pytest

from saccade.clients import http as rest
from saccade.clients.display.text import answer_table, throughput_table, truth_table
from saccade.clients.errors import RequestRefused, ServerUnreachable
from saccade.model.events.encodings.packed import unpack
from saccade.model.events.sensor import Sensor
from tests.clients.scripted import moving

ANSWER = {
    "label": "7", "confidence": 0.9, "logits": [1.0, 2.0],
    "events": 4288, "ticks": 67, "pending": 37,
}  # fmt: skip


@pytest.fixture
def answering():
    """Return a function that serves one answer, and the requests it received."""
    asked = []
    servers = []

    def serve(status, body, kind="application/json"):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("content-length", 0))
                asked.append((self.path, self.rfile.read(length)))
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 (the base class's name)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"ws://127.0.0.1:{server.server_address[1]}"

    serve.asked = asked
    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_no_record_can_hold_is_left_out_where_that_was_chosen(answering):
    url = answering(200, json.dumps({"results": [ANSWER | {"skipped": 2}]}).encode())
    events = moving(6)
    events["y"][1], events["t"][2] = 40_000, 2**62
    events[[4, 5]] = events[[5, 4]]
    choices = {"invalid": "skip", "sort_within_us": 10}
    (answer,) = rest.classify(url, "nmnist", [events], sensor=(34, 34), **choices)
    ((_, body),) = answering.asked
    sent = msgpack.unpackb(body)
    assert sent["invalid"] == "skip"
    assert answer.skipped >= 3
    assert answer.skipped_first


def test_no_certificate_is_read_for_a_server_without_tls(answering, monkeypatch):
    url = answering(200, json.dumps({"results": [ANSWER]}).encode())
    read = []
    for name in (
        "load_verify_locations",
        "load_default_certs",
        "set_default_verify_paths",
    ):
        monkeypatch.setattr(
            ssl.SSLContext, name, lambda *_, name=name, **__: read.append(name)
        )
    rest.classify(url, "nmnist", [moving(5)], sensor=(34, 34))
    assert not read
    with pytest.raises(ServerUnreachable):  # with TLS, they are: the patches do record
        rest.models(url.replace("ws:", "wss:"))
    assert read


def test_a_batch_is_one_request_of_packed_records(answering):
    url = answering(200, json.dumps({"results": [ANSWER, ANSWER]}).encode())
    recordings = [moving(5, start_us=10**15), moving(0)]
    answers = rest.classify(url, "nmnist", recordings, sensor=Sensor(34, 34))
    assert [answer.label for answer in answers] == ["7", "7"]
    ((path, body),) = answering.asked
    sent = msgpack.unpackb(body)
    assert path == "/v1/classify"
    assert (sent["model"], sent["sensor"], sent["fit"]) == (
        "nmnist",
        [34, 34, 2],
        "reject",
    )
    decoded = unpack(sent["recordings"][0]["data"], 0)
    assert decoded["t"].tolist() == [0, 10, 20, 30, 40]
    assert sent["recordings"][1] == {"data": b""}


def test_a_problem_becomes_an_error_with_its_code(answering):
    problem = {"code": "unknown_model", "detail": "no model is named 'x'"}
    url = answering(404, json.dumps(problem).encode(), "application/problem+json")
    with pytest.raises(RequestRefused, match="no model is named") as refused:
        rest.models(url)
    assert (refused.value.status, refused.value.code) == (404, "unknown_model")


def test_an_answer_from_something_else_is_an_error_too(answering):
    url = answering(502, b"<html>bad gateway</html>", "text/html")
    with pytest.raises(RequestRefused, match="502"):
        rest.models(url)


def test_models_are_listed_with_their_sensors(answering):
    listed = {"models": [{"model": "m", "sensor": [34, 34], "labels": ["a"], "new": 1}]}
    url = answering(200, json.dumps(listed).encode())
    assert rest.models(url) == [rest.ModelCard("m", Sensor(34, 34), ["a"])]


def test_an_unreachable_server_is_an_error_of_its_own(unused_tcp_port):
    with pytest.raises(ServerUnreachable):
        rest.models(f"http://127.0.0.1:{unused_tcp_port}")


METRICS = """\
# HELP saccade_events_scored_total Events in whole ticks
# TYPE saccade_events_scored_total counter
saccade_events_scored_total{model="motions"} 2e+06
saccade_batches_total{model="motions"} 1000.0
saccade_batch_seconds_bucket{le="0.001",model="motions"} 3.0
saccade_batch_seconds_sum{model="motions"} 4.0
saccade_up 1
"""


def test_metrics_are_read_with_their_labels(answering):
    samples = rest.metrics(answering(200, METRICS.encode(), "text/plain"))
    assert samples[0] == rest.Sample(
        "saccade_events_scored_total", {"model": "motions"}, 2e6
    )
    assert samples[2].labels == {"le": "0.001", "model": "motions"}
    assert samples[-1] == rest.Sample("saccade_up", {}, 1.0)


def test_throughput_is_events_by_the_time_the_device_worked():
    table = throughput_table(rest.parse_metrics(METRICS))
    assert table.splitlines()[1].split() == [
        "motions", "0", "0", "2,000,000", "1,000", "4.00", "500", "k",
    ]  # fmt: skip


def test_answers_are_shown_beside_the_truth():
    answer = rest.Answer("left", 0.9, 128, 3, [1.0])
    silent = rest.Answer(None, None, 0, 3, None)
    table = truth_table([("left", answer), ("right", answer), ("up", silent)])
    assert [line.split()[2] for line in table.splitlines()[1:]] == ["✓", "≠", "≠"]
    assert "90.0 %" in answer_table([("a.bin", answer), ("b.bin", silent)])
