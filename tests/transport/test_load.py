"""The load generator's sessions, in the test's own process, against a real server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from saccade.clients.benchmark.crew import Probed, probe
from saccade.clients.benchmark.frames import Frames, random_events
from saccade.clients.benchmark.measured import Measured
from saccade.clients.benchmark.session import Load, LoadSession, Plan
from saccade.clients.errors import RequestRefused, ServerUnreachable
from saccade.server.transport.auth import digest_of, new_key
from tests.toy import SENSOR, TICK, toy_model

FRAME = 16
OPENING = {"model": "toy"}


def frames(rate: float = 1e5) -> Frames:
    return Frames(random_events(SENSOR, 4 * FRAME), FRAME, rate)


async def measure(
    url: str, load: Load, seconds: float = 0.1
) -> tuple[Measured, dict[str, Any] | None, int]:
    session = await LoadSession.connect(url, load, frames(load.rate or 1e5))
    measured = await session.run(Plan(time.monotonic(), seconds, grace_s=60.0))
    return measured, await session.close(), session.sent_events


@pytest.mark.parametrize(
    ("timestep", "held_back"), [("preceding", 0), ("following", 1)]
)
def test_a_model_that_holds_a_tick_back_is_found_out_without_waiting_for_the_tick(
    serve: Any, timestep: Any, held_back: int
) -> None:
    server = serve(toy_model(timestep=timestep))

    async def find() -> Probed:
        async with asyncio.timeout(40.0):  # the tick never comes
            return await probe(server.base, OPENING)

    found = asyncio.run(find())
    assert (found.opened["tick_events"], found.held_back) == (TICK, held_back)


def test_a_load_is_sent_over_tls_with_a_key(
    serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, key = trustme.CA(), new_key()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    keys = (f"holder:{digest_of(key)}",)
    server = serve(tls_cert=tmp_path / "both", keys=keys)
    load = Load(OPENING, FRAME, rate=2000.0)
    with pytest.raises(ServerUnreachable, match="certificate"):
        asyncio.run(measure(server.base, load))
    monkeypatch.setenv("SACCADE_CA", str(tmp_path / "ca"))
    with pytest.raises(RequestRefused) as refused:
        asyncio.run(measure(server.base, load))
    assert refused.value.status == 401
    monkeypatch.setenv("SACCADE_KEY", key)
    measured, closed, sent = asyncio.run(measure(server.base, load))
    assert measured.complete
    assert closed is not None
    assert closed["events"] == sent == measured.scored_events > 0


def test_a_sensor_sends_every_frame_of_its_schedule_and_no_more(server: Any) -> None:
    load = Load(OPENING, FRAME, rate=8000.0)
    measured, closed, sent = asyncio.run(measure(server.base, load, seconds=0.2))
    assert measured.frames == 0.2 * 8000 / FRAME
    assert measured.sent_events == sent
    assert measured.left_out + measured.results == sent // TICK
    assert len(measured.latency) == sent // TICK
    assert len(measured.behind) == measured.frames
    assert closed is not None


def test_a_client_at_full_speed_stays_within_its_credit(serve: Any) -> None:
    window = 64 * FRAME
    server = serve(
        window_events=window, window_bytes=8 * window, max_frame_bytes=8 * window
    )
    most = 0
    allows = LoadSession._may_send

    def watched(session: LoadSession) -> bool:
        nonlocal most
        credit = session._credit
        most = max(most, credit.sent_events - credit.acked_events)
        return allows(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoadSession, "_may_send", watched)
        measured, _, sent = asyncio.run(measure(server.base, Load(OPENING, FRAME)))
    assert 0 < most <= window
    assert sent > window
    assert measured.complete or measured.left_out


def test_a_session_that_is_lost_is_counted_with_its_reason(server: Any) -> None:
    async def lose() -> Measured:
        session = await LoadSession.connect(server.base, Load(OPENING, FRAME), frames())
        name = session.opened["session"]
        async with httpx.AsyncClient(base_url=server.base) as client:
            await client.delete(f"/v1/sessions/{name}")
        measured = await session.run(Plan(time.monotonic(), 60.0, grace_s=60.0))
        assert await session.close() is None
        return measured

    measured = asyncio.run(lose())
    assert len(measured.lost) == 1
    assert "session_deleted" in measured.lost[0]
    assert not measured.complete
