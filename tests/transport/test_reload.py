"""A checkpoint is replaced while the server runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from saccade.model.checkpoint import MANIFEST, WEIGHTS
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server import reloading
from saccade.server.engine.loading import load_model
from saccade.server.protocol.messages import Ack
from tests.clients.untrained import save_untrained
from tests.toy import wait_until
from tests.transport.conftest import Server
from tests.transport.test_watch import watching
from tests.wire import Client

SWIFT = {"reload_s": 0.1, "session_ttl_s": 1.0}
LABELS = ("a", "b")
SIDE = 8


def some_events(count: int) -> Events:
    random = np.random.default_rng(0)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = np.arange(count) * 10
    for field, limit in (("x", SIDE), ("y", SIDE), ("p", 2)):
        events[field] = random.integers(0, limit, count)
    return events


EVENTS = some_events(320)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_untrained(tmp_path / "net", "net", LABELS, SIDE)
    return tmp_path / "net"


@pytest.fixture
def server(serve: Any, folder: Path) -> Server:
    running: Server = serve(load_model(folder), buckets=((1, 4),), **SWIFT)
    return running


def served(server: Server) -> str:
    models = httpx.get(f"{server.base}/v1/models").json()["models"]
    return str(models[0]["model_hash"])


def reloads(server: Server, outcome: str) -> float:
    value = server.service.metrics.registry.get_sample_value(
        "saccade_reloads_total", {"model": "net", "outcome": outcome}
    )
    return value or 0.0


def streamed(server: Server) -> list[float]:
    with server.client() as client:
        client.open("net")
        client.send(EVENTS)
        return list(client.finish().logits or [])


def half(client: Client, part: Events) -> None:
    client.send(part)
    client.hear_until(Ack)


def replace(folder: Path, seed: int) -> None:
    save_untrained(folder, "net", LABELS, SIDE, seed)


def test_new_sessions_get_the_new_version_and_old_ones_end_on_theirs(
    server: Server, folder: Path
) -> None:
    before, first = streamed(server), served(server)
    with server.client() as old, server.client() as lost:
        old.open("net")
        half(old, EVENTS[:100])
        token = lost.open("net").resume
        half(lost, EVENTS[:100])
        replace(folder, seed=1)
        wait_until(lambda: served(server) != first)
        after = streamed(server)
        assert not np.allclose(after, before)
        old.send(EVENTS[100:])
        assert list(old.finish().logits or []) == pytest.approx(before, rel=1e-5)
        lost.socket.socket.close()
        with server.client() as back:
            opened = back.open("net", resume=token)
            assert opened.model_hash == first
            back.seq = opened.seq
            back.send(EVENTS[100:])
            assert list(back.finish().logits or []) == pytest.approx(before, rel=1e-5)
    assert httpx.get(f"{server.base}/readyz").status_code == 200
    # Nobody uses the old one any more, and it is let go.
    engine = server.service.engine
    wait_until(lambda: len(engine.health.models) == 1)
    assert streamed(server) == pytest.approx(after, rel=1e-5)
    assert reloads(server, "taken") == 1


def test_a_watched_session_goes_on_being_shown_while_its_model_is_replaced(
    server: Server, folder: Path
) -> None:
    first = served(server)
    with server.client() as old:
        session = old.open("net").session
        with watching(server, session) as watcher:
            assert watcher.hear()["model_hash"] == first
            half(old, EVENTS[:100])
            replace(folder, seed=1)
            wait_until(lambda: served(server) != first)
            old.send(EVENTS[100:])
            closed = old.finish()
            assert watcher.finish() == {"type": "ended", "reason": "closed"}
        assert watcher.events.tolist() == EVENTS.tolist()
        newest = [each for each in watcher.heard if each["type"] == "result"][-1]
        assert newest["logits"] == pytest.approx(closed.logits)
    with server.client() as new:
        with watching(server, new.open("net").session) as watcher:
            assert watcher.hear()["model_hash"] == served(server) != first
        new.send(EVENTS[:100])


def damage(folder: Path, scratch: Path) -> None:
    replace(scratch, seed=1)
    shutil.rmtree(folder / WEIGHTS)
    shutil.copytree(scratch / WEIGHTS, folder / WEIGHTS)
    for part in (folder / WEIGHTS).rglob("*"):
        if part.is_file():
            part.write_bytes(part.read_bytes()[:10])


def miss_the_canary(folder: Path, scratch: Path) -> None:
    replace(scratch, seed=1)
    manifest = json.loads((scratch / MANIFEST).read_text())
    manifest["canary"]["logits"] = [1.0, 2.0]
    (scratch / MANIFEST).write_text(json.dumps(manifest))
    shutil.copytree(scratch, folder, dirs_exist_ok=True)


def rename(folder: Path, _: Path) -> None:
    save_untrained(folder, "other", LABELS, SIDE, seed=1)


def test_a_folder_that_is_replaced_by_rm_and_cp_is_found_again(
    serve: Any, folder: Path, tmp_path: Path
) -> None:
    server: Server = serve(
        load_model(folder), buckets=((1, 4),), reload_s=0.005, session_ttl_s=1.0
    )
    first, copy = served(server), tmp_path / "copy"
    shutil.copytree(folder, copy)
    for _ in range(100):
        shutil.rmtree(folder)
        shutil.copytree(copy, folder)
    replace(folder, seed=1)
    wait_until(lambda: served(server) != first)


def test_a_look_that_fails_is_counted_and_health_is_amber_until_it_succeeds(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, failing = served(server), [True]
    original = reloading.stamp_of

    def stamp_of(path: Path) -> reloading.Stamp:
        if failing[0]:
            raise OSError(24, "Too many open files")
        return original(path)

    monkeypatch.setattr(reloading, "stamp_of", stamp_of)

    def status() -> str:
        answer = httpx.get(f"{server.base}/healthz")
        assert answer.status_code == 200
        report = answer.json()
        assert report["status"] == "ok" or "Too many open files" in report["reason"]
        return str(report["status"])

    wait_until(lambda: status() == "amber")
    assert httpx.get(f"{server.base}/readyz").status_code == 200
    failures = server.service.metrics.registry.get_sample_value(
        "saccade_background_failures_total", {"work": reloading.RELOADING}
    )
    assert failures is not None
    assert failures >= 3
    failing[0] = False
    wait_until(lambda: status() == "ok")
    replace(folder, seed=1)
    wait_until(lambda: served(server) != first)


SPOILT = {
    damage: "Orbax cannot read it",
    miss_the_canary: "jaxlib",
    rename: "holds 'other' now",
}


def test_bad_versions_are_refused_and_change_nothing(
    server: Server, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, first = streamed(server), served(server)
    for count, (spoil, reason) in enumerate(SPOILT.items(), start=1):
        spoil(folder, tmp_path / "scratch")
        wait_until(lambda: reason in caplog.text)  # noqa: B023
        wait_until(lambda: reloads(server, "refused") >= count)  # noqa: B023
        assert served(server) == first
        assert streamed(server) == pytest.approx(before, rel=1e-5)
        assert httpx.get(f"{server.base}/readyz").status_code == 200
    replace(folder, seed=2)  # mended
    wait_until(lambda: served(server) != first)
    assert reloads(server, "taken") == 1
