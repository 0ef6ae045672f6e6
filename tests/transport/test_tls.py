"""https and wss: a real server with a certificate, and clients that check it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme
from websockets.exceptions import InvalidHandshake
from websockets.sync.client import connect

from saccade.clients import http
from saccade.clients.connection import connect as connect_stream
from saccade.clients.errors import ServerUnreachable
from saccade.model.events.sensor import Sensor
from saccade.server.settings import Settings
from tests.system.command import saccade
from tests.toy import event_scores, some_events

EVENTS = some_events(20)
SENSOR = Sensor(4, 4)


class Papers:
    """An authority, a certificate of its making, and the files of both."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.ca, self.cert, self.key = (folder / n for n in ("ca", "cert", "key"))
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        self.both = folder / "both"
        issued.private_key_and_cert_chain_pem.write_to_path(self.both)
        for number, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(self.cert, append=number > 0)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


async def streamed(url: str) -> float:
    async with connect_stream(url, model="toy") as stream:
        await stream.send(EVENTS)
        logits = (await stream.close()).logits
    assert logits is not None
    return logits[0]


def test_the_sdk_streams_and_classifies_over_tls(
    serve: Any, papers: Papers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve(tls_cert=papers.cert, tls_key=papers.key)
    assert server.base.startswith("https://127.0.0.1:")
    monkeypatch.setenv("SACCADE_CA", str(papers.ca))
    expected = pytest.approx(event_scores(EVENTS)[-1])
    wss = server.base.replace("https", "wss")
    assert asyncio.run(streamed(wss)) == expected
    (answer,) = http.classify(server.base, "toy", [EVENTS], sensor=SENSOR)
    assert answer.logits is not None
    assert answer.logits[0] == expected
    np.save(tmp_path / "events.npy", EVENTS)
    played = saccade(
        "stream", str(tmp_path / "events.npy"), "--sensor", "4x4",
        "--url", wss, "--model", "toy", "--json",
    )  # fmt: skip
    assert played.returncode == 0, played.stderr


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    serve: Any, papers: Papers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve(tls_cert=papers.both)
    monkeypatch.delenv("SACCADE_CA", raising=False)
    with pytest.raises(ServerUnreachable, match="certificate"):
        asyncio.run(streamed(server.base))
    with pytest.raises(ServerUnreachable, match="certificate"):
        http.models(server.base)
    monkeypatch.setenv("SACCADE_CA", str(tmp_path / "none"))
    with pytest.raises(ServerUnreachable, match="none"):
        asyncio.run(streamed(server.base))
    with pytest.raises(ServerUnreachable, match="none"):
        http.models(server.base)
    plain = server.base.replace("https", "http")
    with pytest.raises(httpx.TransportError):
        httpx.get(plain + "/healthz")
    url = plain.replace("http", "ws") + "/v1/stream"
    with pytest.raises(InvalidHandshake), connect(url, open_timeout=5):
        pass


def test_files_that_are_no_certificate_are_named(
    papers: Papers, tmp_path: Path
) -> None:
    other = Papers(tmp_path)
    with pytest.raises(ValueError, match="none"):
        Settings(tls_cert=tmp_path / "none")
    with pytest.raises(ValueError, match="key"):
        Settings(tls_cert=papers.cert, tls_key=other.key)
    with pytest.raises(ValueError, match="without tls_cert"):
        Settings(tls_key=papers.key)


def test_a_locked_key_needs_its_password_and_never_asks_for_it(
    papers: Papers, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(papers.key.read_bytes(), None)
    locked = tmp_path / "locked"
    locked.write_bytes(
        key.private_bytes(
            form.Encoding.PEM,
            form.PrivateFormat.PKCS8,
            form.BestAvailableEncryption(b"sesame"),
        )
    )
    files = {"tls_cert": papers.cert, "tls_key": locked}
    with pytest.raises(ValueError, match="locked"):
        Settings(**files)
    settings = Settings(**files, tls_key_password="sesame")
    assert "sesame" not in repr(settings)
