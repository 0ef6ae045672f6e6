"""A key's holder sees its own sessions, and ends one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from saccade.server.protocol.messages import Ack, Open
from saccade.server.transport.auth import digest_of, new_key
from tests.toy import some_events, wait_until
from tests.wire import client_of

KEYS = {name: new_key() for name in ("ann", "bob")}
LINES = tuple(f"{name}:{digest_of(key)}" for name, key in KEYS.items())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture
def guarded(serve: Any) -> Any:
    return serve(keys=LINES, snapshot_s=0.05)


def ask(server: Any, name: str, path: str = "", method: str = "GET") -> httpx.Response:
    url = f"{server.base}/v1/sessions{path}"
    return httpx.request(method, url, headers=bearer(name))


def test_a_holder_sees_its_own_sessions_and_no_token(guarded: Any) -> None:
    with client_of(guarded.base, additional_headers=bearer("ann")) as client:
        opened = client.open()
        client.send(some_events(9))
        client.hear_until(Ack)
        wait_until(lambda: ask(guarded, "ann").json()["sessions"][0]["drained"])
        (seen,) = ask(guarded, "ann").json()["sessions"]
        assert seen["session"] == opened.session
        assert (seen["model"], seen["model_hash"]) == ("toy", "0123abcd")
        assert seen["events"] == 9
        assert opened.resume not in str(seen)
        assert ask(guarded, "ann", f"/{opened.session}").json() == seen
        assert ask(guarded, "bob").json() == {"sessions": []}
        client.finish()
    assert ask(guarded, "ann").json() == {"sessions": []}


def test_a_session_is_deleted_by_its_own_key_only_and_for_good(guarded: Any) -> None:
    with client_of(guarded.base, additional_headers=bearer("ann")) as client:
        opened = client.open()
        path = f"/{opened.session}"
        refused = ask(guarded, "bob", path, "DELETE")
        assert refused.status_code == 404
        assert refused.json()["code"] == "unknown_session"
        assert ask(guarded, "ann", path, "DELETE").status_code == 204
        assert client.close_code() == 4404
        assert client.error.code == "session_deleted"
    assert ask(guarded, "ann", path).status_code == 404
    wait_until(lambda: guarded.service.engine.slots_used("toy") == 0)
    with client_of(guarded.base, additional_headers=bearer("ann")) as again:
        again.say(Open("toy", resume=opened.resume))
        assert again.close_code() == 4404
        assert again.error.code == "unknown_session"
