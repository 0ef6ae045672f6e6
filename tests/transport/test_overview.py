"""The overview of a server: what its operator and its users see of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given, strategies as st

import saccade
from saccade.server.protocol.messages import Result
from saccade.server.transport.auth import digest_of, new_key
from saccade.server.transport.collectors import LATENCIES_S, Observations
from saccade.server.transport.sampler import merged, percentile
from tests.toy import some_events
from tests.wire import client_of

KEYS = {name: new_key() for name in ("ann", "bob", "olga")}
LINES = tuple(
    f"{name}:{digest_of(key)}" + (":operator" if name == "olga" else "")
    for name, key in KEYS.items()
)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def overview(server: Any, **options: Any) -> dict[str, Any]:
    answer = httpx.get(server.base + "/v1/overview", **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_overview_describes_server_models_and_sessions(serve: Any) -> None:
    server = serve()
    with client_of(server.base) as client:
        opened = client.open()
        for k in range(1000):
            client.send(some_events(50, start_us=1000 * k))
            client.hear_until(Result)
            seen = overview(server)
            if seen["totals"]["events_per_s"] and seen["totals"]["results_per_s"]:
                break
        assert seen["version"] == saccade.__version__
        assert seen["health"] == {"status": "ok", "reason": ""}
        assert seen["devices"][0]["platform"] == "cpu"
        (device,) = seen["engine_devices"]
        assert (device["name"], device["slots_used"]) == ("cpu:0", 1)
        assert device["events"] > 0
        assert (seen["watching"], seen["operator"], seen["workers"]) == (True, True, 0)
        (model,) = seen["models"]
        assert (model["model"], model["state"], model["sessions"]) == (
            "toy",
            "ready",
            1,
        )
        assert 0 < model["latency_ms"]["p50"] <= model["latency_ms"]["p99"]
        assert model["results_per_s"] > 0
        assert seen["totals"]["events_per_s"] == pytest.approx(model["events_per_s"])
        (session,) = seen["sessions"]
        assert (session["session"], session["events"]) == (opened.session, client.sent)
        assert opened.resume not in str(seen)
        client.finish()


def test_a_key_sees_its_own_sessions_and_an_operator_those_of_all(serve: Any) -> None:
    server = serve(keys=LINES, no_watch=True)
    assert httpx.get(server.base + "/v1/overview").status_code == 401
    with (
        client_of(server.base, additional_headers=bearer("ann")) as one,
        client_of(server.base, additional_headers=bearer("bob")) as other,
    ):
        names = {"ann": one.open().session, "bob": other.open().session}
        for name in ("ann", "bob"):
            seen = overview(server, headers=bearer(name))
            assert not seen["operator"]
            assert not seen["watching"]
            (session,) = seen["sessions"]
            assert (session["session"], session["holder"]) == (names[name], name)
        seen = overview(server, headers=bearer("olga"))
        assert seen["operator"]
        assert {s["session"] for s in seen["sessions"]} == {*names.values()}
        assert seen["totals"]["sessions"] == 2
        one.finish()
        other.finish()


@given(
    st.lists(st.floats(2e-4, 1.0), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_a_percentile_is_right_up_to_the_width_of_a_bucket(times, part):
    latencies = Observations(LATENCIES_S)
    for seconds in times:
        latencies.observe(seconds)
    found = percentile([*latencies.counts], part)
    assert found is not None
    below = sum(seconds <= 2 * found for seconds in times)
    above = sum(seconds >= found / 2 for seconds in times)
    assert below >= part * len(times) - 1
    assert above >= (1 - part) * len(times) - 1


def test_nothing_scored_has_no_latency():
    assert percentile([0] * (len(LATENCIES_S) + 1), 0.5) is None


def test_the_rates_of_processes_add_up():
    parts = [
        {"events_per_s": 2.0, "latencies": [1] + [0] * len(LATENCIES_S)},
        None,
        {"events_per_s": 3.0, "latencies": [2] + [0] * len(LATENCIES_S)},
    ]
    total = merged(parts)
    assert total["events_per_s"] == 5.0
    assert total["latencies"][0] == 3
