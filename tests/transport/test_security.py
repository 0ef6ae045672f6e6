"""Who may come in, route by route, on a real server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from saccade.clients.connection import connect as connect_stream
from saccade.clients.errors import RequestRefused
from saccade.server.app import create_routes, create_service
from saccade.server.protocol.messages import Ack, Open
from saccade.server.settings import Settings
from saccade.server.transport.auth import TICKET_S, Keys, Tickets, digest_of, new_key
from tests.toy import some_events, toy_model, wait_until
from tests.wire import Client

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
KEYS = {name: new_key() for name in ("ann", "bob")}
LINES = tuple(f"{name}:{digest_of(key)}" for name, key in KEYS.items())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


def stream_url(server: Any) -> str:
    return server.base.replace("http", "ws") + "/v1/stream"


def status_of_handshake(url: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as caught, connect(url, **options):
        pass
    return caught.value.response.status_code


@pytest.fixture
def guarded(serve: Any) -> Any:
    return serve(keys=LINES, snapshot_s=0.05)


def documented() -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| `(/.*?)` \| (.*?) \| (.*?) \|", PAGE.read_text(), re.M)
    return {path: (methods, key) for path, methods, key in rows}


def test_the_table_of_routes_is_that_of_the_application() -> None:
    settings = Settings(store="memory", slots=1, buckets=((1, 1),))
    app = create_routes(create_service(settings, (toy_model(),)))
    found = {}
    pending = [*app.routes]
    while pending:
        route = pending.pop()
        if isinstance(route, WebSocketRoute):
            found[route.path] = "websocket"
        elif isinstance(route, (APIRoute, Route)):
            methods = {*found.get(route.path, "").split(", "), *(route.methods or ())}
            found[route.path] = ", ".join(sorted(methods - {"", "HEAD"}))
        elif hasattr(route, "path") and hasattr(route, "endpoint"):
            found[route.path] = "websocket"
        else:
            pending += getattr(route, "routes", None) or route.original_router.routes
    assert {path: methods for path, (methods, _) in documented().items()} == found


def test_every_route_asks_for_what_the_table_says(guarded: Any) -> None:
    for path, (methods, key) in documented().items():
        if methods == "websocket":
            assert status_of_handshake(stream_url(guarded)) == 401
            continue
        for method in methods.split(", "):
            answer = httpx.request(method, guarded.base + path)
            assert (answer.status_code == 401) == (key != "no"), path
            wrong = {"Authorization": "Bearer saccade_guess"}
            answer = httpx.request(method, guarded.base + path, headers=wrong)
            assert (answer.status_code == 401) == (key != "no"), path
            answer = httpx.request(method, guarded.base + path, headers=bearer("ann"))
            assert answer.status_code != 401, path
    answer = httpx.get(guarded.base + "/v1/nothing")
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_ticket_opens_one_websocket_once(guarded: Any) -> None:
    answer = httpx.post(guarded.base + "/v1/tickets", headers=bearer("ann"))
    url = f"{stream_url(guarded)}?ticket={answer.json()['ticket']}"
    with connect(url, compression=None) as socket:
        Client(socket, text=False).open()
    assert status_of_handshake(url) == 401


def test_a_ticket_places_a_session_once_and_asks_for_nothing_else(guarded: Any) -> None:
    def ticket() -> dict[str, str]:
        answer = httpx.post(guarded.base + "/v1/tickets", headers=bearer("ann"))
        return {"ticket": answer.json()["ticket"]}

    url, asked, shown = guarded.base + "/v1/sessions", {"model": "toy"}, ticket()
    assert httpx.post(url, json=asked, params=shown).json()["url"] == guarded.base
    assert httpx.post(url, json=asked, params=shown).status_code == 401
    assert httpx.get(url, params=ticket()).status_code == 401
    assert httpx.post(url + "/x", json=asked, params=ticket()).status_code == 401


async def test_a_ticket_is_good_for_a_while() -> None:
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    early, late = await tickets.issue("ann"), await tickets.issue("bob")
    now[0] = TICKET_S - 1
    assert await tickets.use(early) == "ann"
    now[0] = TICKET_S
    assert await tickets.use(late) is None


def test_a_session_comes_back_to_its_own_key_only(guarded: Any) -> None:
    url = stream_url(guarded)
    with connect(url, compression=None, additional_headers=bearer("ann")) as socket:
        first = Client(socket, text=False)
        opened = first.open()
        first.send(some_events(5))
        first.hear_until(Ack)
        socket.socket.close()
    wait_until(lambda: guarded.service.engine.slots_used("toy") == 0)
    with connect(url, compression=None, additional_headers=bearer("bob")) as socket:
        thief = Client(socket, text=False)
        thief.say(Open("toy", resume=opened.resume))
        assert thief.close_code() == 4404
    with connect(url, compression=None, additional_headers=bearer("ann")) as socket:
        assert Client(socket, text=False).open(resume=opened.resume).resumed


def test_another_key_s_attempt_leaves_the_session_s_client_alone(guarded: Any) -> None:
    url = stream_url(guarded)
    with (
        connect(url, compression=None, additional_headers=bearer("ann")) as own,
        connect(url, compression=None, additional_headers=bearer("bob")) as other,
    ):
        client, thief = Client(own, text=False), Client(other, text=False)
        opened = client.open()
        thief.say(Open("toy", resume=opened.resume))
        assert thief.close_code() == 4404
        client.send(some_events(8))
        assert client.finish().ticks == 4


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("https://app.example", 200),
        (None, 200),
    ],
)
def test_a_page_of_another_origin_is_refused(
    serve: Any, origin: str | None, status: int
) -> None:
    server = serve(origins=("https://app.example",))
    headers = {} if origin is None else {"Origin": origin}
    answer = httpx.get(server.base + "/v1/models", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["code"] == "origin_refused"
        headers = {"additional_headers": headers}
        assert status_of_handshake(stream_url(server), **headers) == 403


def test_a_page_of_a_named_origin_can_fetch_a_ticket(serve: Any) -> None:
    origin = "https://app.example"
    server = serve(origins=(origin,), keys=LINES)
    url = server.base + "/v1/tickets"
    asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(url, headers=asking)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == origin
    assert "Authorization" in allowed.headers["access-control-allow-headers"]
    assert "POST" in allowed.headers["access-control-allow-methods"]
    for key, status in (({}, 401), (bearer("ann"), 200)):
        answer = httpx.post(url, headers={"Origin": origin, **key})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == origin
    asking["Origin"] = "https://evil.example"
    assert httpx.options(url, headers=asking).status_code == 403
    asking = {"Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(url).headers


def test_a_page_of_a_named_origin_may_use_every_route(serve: Any) -> None:
    origin = "https://app.example"
    server = serve(origins=(origin,), keys=LINES)
    for path, (methods, _) in documented().items():
        for method in [] if methods == "websocket" else methods.split(", "):
            asking = {
                "Origin": origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization, content-type",
            }
            allowed = httpx.options(server.base + path, headers=asking)
            assert allowed.status_code == 204, path
            assert method in allowed.headers["access-control-allow-methods"]
            assert "access-control-allow-credentials" not in allowed.headers
            headers = {"Origin": origin, **bearer("ann")}
            answer = httpx.request(method, server.base + path, headers=headers)
            assert answer.headers["access-control-allow-origin"] == origin, path
            assert "Origin" in answer.headers["vary"]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


def test_markup_in_names_and_labels_stays_a_string_of_json(serve: Any) -> None:
    model = replace(toy_model(), labels=(HOSTILE, "down"))
    server = serve(model)
    with connect(stream_url(server), compression=None) as socket:
        client = Client(socket, text=True)
        assert client.open().labels[0] == HOSTILE
        answers = [
            httpx.get(server.base + path)
            for path in (
                "/v1/models", "/v1/overview", "/v1/sessions", "/metrics",
                f"/v1/sessions/{HOSTILE}", f"/{HOSTILE}", f"/web/{HOSTILE}",
                f"/?{HOSTILE}",
            )
        ]  # fmt: skip
        body = {"model": HOSTILE, "recordings": [{HOSTILE: HOSTILE}]}
        answers.append(httpx.post(server.base + "/v1/classify", json=body))
        client.finish()
    for answer in answers:
        kind = answer.headers["content-type"].partition(";")[0]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if kind == "text/html":
            assert "alert(1)" not in answer.text, answer.url
            assert "content-security-policy" in answer.headers
        else:
            json_or_metrics = {"application/json", "application/problem+json"}
            assert kind in json_or_metrics | {"text/plain"}, answer.url
    assert answers[0].json()["models"][0]["labels"] == [HOSTILE, "down"]


def test_an_operator_is_named_by_its_line_alone() -> None:
    digest = digest_of(new_key())
    keys = Keys.read(None, [f"ann:{digest}", f"olga:{digest}:operator"])
    assert keys.sees_all("olga")
    assert not keys.sees_all("ann")
    assert not keys.sees_all("")
    assert Keys.read(None, []).sees_all("")
    again = Keys.read(None, [f"olga:{digest}:operator", f"olga:{digest}"])
    assert not again.sees_all("olga"), "the last line of a name stands"
    for line in (f"ann:{digest}:root", f"ann:{digest}:operator:x"):
        with pytest.raises(ValueError, match="key 1"):
            Keys.read(None, [line])


def test_an_operator_s_key_is_made_by_the_command() -> None:
    command = [sys.executable, "-m", "saccade", "key", "olga", "--operator"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Keys.read(None, [made.stdout]).sees_all("olga")


def test_a_missing_a_wrong_and_a_used_secret_are_told_apart(guarded: Any) -> None:
    url = guarded.base + "/v1/models"
    told = httpx.get(url).json()["detail"]
    assert "a key is needed" in told
    wrong = {"Authorization": "Bearer saccade_guess"}
    assert "does not know the key" in httpx.get(url, headers=wrong).json()["detail"]
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{stream_url(guarded)}?ticket=used", compression=None)
    assert b"ticket" in (refused.value.response.body or b"")


def test_a_page_of_the_server_s_own_is_welcome_on_loopback_only(serve: Any) -> None:
    server = serve()
    own = {"Origin": server.base}
    assert httpx.get(server.base + "/v1/models", headers=own).status_code == 200
    host = "rebound.example:80"  # a name that resolves to this machine
    headers = {"Origin": f"http://{host}", "Host": host}
    answer = httpx.get(server.base + "/v1/models", headers=headers)
    assert answer.status_code == 403


def test_the_sdk_shows_the_key_of_its_environment(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def final() -> int:
        async with connect_stream(guarded.base, model="toy") as stream:
            await stream.send(some_events(8))
            return (await stream.close()).ticks

    with pytest.raises(RequestRefused, match="unauthorized"):
        asyncio.run(final())
    monkeypatch.setenv("SACCADE_KEY", KEYS["bob"])
    assert asyncio.run(final()) == 4


def test_a_public_address_needs_keys_or_insistence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--insecure"):
        Settings(host="0.0.0.0")
    Settings(host="0.0.0.0", insecure=True)
    Settings(host="0.0.0.0", keys=LINES)
    file = tmp_path / "keys"
    file.write_text("# nobody yet\n")
    settings = Settings(host="0.0.0.0", keys_file=file, store="memory")
    with pytest.raises(ValueError, match="no key"):
        create_service(settings, (toy_model(),))


def test_a_key_that_was_made_opens_and_is_nowhere_written(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "saccade", "key", "robot-7"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    file = tmp_path / "keys"
    file.write_text(made.stdout)
    key = made.stderr.split()[-1]
    assert key not in made.stdout
    keys = Keys.read(file, ())
    assert keys.holder(key) == "robot-7"
    assert keys.holder(key + "x") is None
    assert keys.holder("") is None


def test_a_line_that_holds_a_key_by_mistake_is_refused_and_not_quoted() -> None:
    secret = new_key()
    with pytest.raises(ValueError, match="key 2") as caught:
        Keys.read(None, [*LINES[:1], f"carl:{secret}"])
    assert secret not in str(caught.value)
