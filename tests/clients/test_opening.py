"""Openings against a server that drains, at each step of the handshake."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import pytest

from saccade.clients import blocking
from saccade.clients.commands.cli import stream as stream_command
from saccade.clients.connection import connect
from saccade.clients.errors import (
    ConnectionLost,
    RequestRefused,
    ServerUnavailable,
    ServerUnreachable,
    StreamError,
)
from saccade.clients.reconnecting import MAX_CUT_OFF, NEVER, Reconnecting
from saccade.server.protocol.codec import decode_client
from saccade.server.protocol.errors import NotReady, RateExceeded, SlotsExhausted
from saccade.server.protocol.messages import (
    Ack,
    ErrorMessage,
    EventsFrame,
    GoAway,
    Open,
)
from tests.clients.scripted import FINAL, moving, scripted


def hurried(**changes):
    """Return how to reconnect without waiting for long, and the waits to come."""
    waits = []
    reconnecting = {"first_s": 0.001, "most_s": 0.002, "on_wait": waits.append}
    return Reconnecting(**{**reconnecting, **changes}), waits


def cut_off(socket):
    socket.transport.abort()


def answers(status, body="", **headers):
    def answer(socket):
        response = socket.respond(status, body)
        response.headers.update({k.replace("_", "-"): v for k, v in headers.items()})
        return response

    return answer


def closes(code):
    async def script(peer):
        await peer.socket.close(code)

    return script


def answers_open(message, code):
    async def script(peer):
        await peer.expect(Open)
        await peer.send(message)
        await peer.socket.close(code)

    return script


def refuses(error):
    message = ErrorMessage(error.code, str(error), fatal=True)
    return answers_open(message, error.close_code)


async def abort(peer):
    peer.socket.transport.abort()


async def abort_on_open(peer):
    await peer.expect(Open)
    peer.socket.transport.abort()


async def close_on_open(peer):
    await peer.expect(Open)


async def serve_one(peer):
    await peer.open()
    await peer.finish()


PROBLEM = json.dumps({"code": "not_ready", "detail": "the server is starting"})
HANDSHAKES = {
    "cut off before the answer": (cut_off, ServerUnreachable),
    "503": (answers(HTTPStatus.SERVICE_UNAVAILABLE, PROBLEM), ServerUnavailable),
    "502 of a gateway": (answers(HTTPStatus.BAD_GATEWAY), ServerUnavailable),
    "500 of uvicorn": (answers(HTTPStatus.INTERNAL_SERVER_ERROR), ServerUnavailable),
}
SCRIPTS = {
    "restarts before open is read": (closes(1012), ServerUnavailable),
    "leaves before open is read": (closes(1001), ServerUnavailable),
    "is not ready before open is read": (closes(1013), ServerUnavailable),
    "cut off before open is read": (abort, ConnectionLost),
    "cut off after open": (abort_on_open, ConnectionLost),
    "closes after open without a word": (close_on_open, ConnectionLost),
    "goaway instead of opened": (
        answers_open(GoAway("the server is stopping", 1), 1012),
        ServerUnavailable,
    ),
    "not ready": (refuses(NotReady()), StreamError),
    "full": (refuses(SlotsExhausted(4)), StreamError),
    "too fast": (refuses(RateExceeded(0.1)), StreamError),
}


def drains(step):
    """Return the handshakes and the scripts of a server that drains at a step."""
    if step in HANDSHAKES:
        handshake, expected = HANDSHAKES[step]
        return [handshake], [], expected
    script, expected = SCRIPTS[step]
    return [], [script], expected


every_step = pytest.mark.parametrize("step", [*HANDSHAKES, *SCRIPTS])


@every_step
async def test_an_opening_waits_for_a_server_that_drains_and_tries_again(step):
    handshakes, scripts, expected = drains(step)
    reconnecting, waits = hurried()
    async with (
        scripted(*scripts, serve_one, handshakes=handshakes) as url,
        connect(url, model="toy", reconnecting=reconnecting) as stream,
    ):
        assert await stream.close() == FINAL
    assert stream.stats.reconnects == 0
    assert [(type(w.cause), w.attempt) for w in waits] == [(expected, 1)]


@every_step
async def test_a_client_that_never_waits_gets_a_typed_error_at_once(step):
    handshakes, scripts, expected = drains(step)
    async with scripted(*scripts, serve_one, handshakes=handshakes) as url:
        with pytest.raises(expected) as refused:
            async with connect(url, model="toy", reconnecting=NEVER):
                pass
    assert "GoAway(" not in str(refused.value)


async def test_a_starting_server_s_sentence_reaches_the_caller():
    handshakes = [HANDSHAKES["503"][0]]
    async with scripted(serve_one, handshakes=handshakes) as url:
        with pytest.raises(ServerUnavailable, match=r"is starting \(not_ready\)"):
            async with connect(url, model="toy", reconnecting=NEVER):
                pass


@every_step
async def test_an_opening_gives_up_after_a_while(step):
    handshakes, scripts, expected = drains(step)
    reconnecting, waits = hurried(give_up_s=0.05)
    scripts = scripts or [serve_one]
    async with scripted(*scripts, handshakes=100 * handshakes) as url:
        with pytest.raises(expected):
            async with connect(url, model="toy", reconnecting=reconnecting):
                pass
    assert [w.attempt for w in waits] == list(range(1, len(waits) + 1))
    assert waits


async def test_a_server_that_drains_in_several_ways_is_waited_for():
    scripts = [SCRIPTS["goaway instead of opened"][0], closes(1012), abort, serve_one]
    reconnecting, waits = hurried()
    handshakes = [HANDSHAKES["503"][0], cut_off]
    async with (
        scripted(*scripts, handshakes=handshakes) as url,
        connect(url, model="toy", reconnecting=reconnecting) as stream,
    ):
        assert await stream.close() == FINAL
    assert [w.attempt for w in waits] == [1, 2, 3, 4, 5]


async def test_a_goaway_right_after_opened_moves_the_session_to_the_next_server():
    async def leave(peer):
        await peer.open(resume="token")
        await peer.send(GoAway("the server is stopping", 1))
        await peer.socket.close(1012)

    async def go_on(peer):
        opening = await peer.open(resume="token", resumed=True)
        assert opening.resume == "token"
        await peer.expect(EventsFrame)
        await peer.send(Ack(1, 4, 32))
        await peer.finish()

    reconnecting, waits = hurried()
    async with (
        scripted(leave, go_on) as url,
        connect(url, model="toy", reconnecting=reconnecting) as stream,
    ):
        await stream.send(moving(4))
        assert await stream.close() == FINAL
    assert stream.stats.reconnects == 1
    assert [(type(w.cause), w.attempt) for w in waits] == [(ConnectionLost, 1)]


@pytest.mark.parametrize(
    ("handshakes", "scripts"),
    [
        ([answers(HTTPStatus.SERVICE_UNAVAILABLE, Retry_After="30")], [serve_one]),
        ([], [answers_open(GoAway("the server is stopping", 30_000), 1012)]),
    ],
)
async def test_the_server_chooses_how_long_to_wait(handshakes, scripts):
    reconnecting, waits = hurried(give_up_s=20)
    async with scripted(*scripts, handshakes=handshakes) as url:
        with pytest.raises(ServerUnavailable) as refused:
            async with connect(url, model="toy", reconnecting=reconnecting):
                pass
    assert refused.value.retry_after_s == 30
    assert not waits


@pytest.mark.parametrize(
    ("handshakes", "scripts", "expected"),
    [
        ([answers(HTTPStatus.NOT_FOUND)], [serve_one], ServerUnreachable),
        (
            [answers(HTTPStatus.UNAUTHORIZED, PROBLEM)],
            [serve_one],
            RequestRefused,
        ),
        ([], [closes(1008)], ConnectionLost),
        ([], [closes(4404)], ConnectionLost),
        ([], [answers_open(FINAL, 1000)], ConnectionLost),
        (
            [],
            [answers_open(ErrorMessage("too_many_sessions", "3", True), 4429)],
            StreamError,
        ),
    ],
)
async def test_what_waiting_does_not_change_is_refused_at_once(
    handshakes, scripts, expected
):
    reconnecting, waits = hurried()
    async with scripted(*scripts, handshakes=handshakes) as url:
        with pytest.raises(expected):
            async with connect(url, model="toy", reconnecting=reconnecting):
                pass
    assert not waits


async def test_a_port_that_never_answers_is_unreachable_after_a_few_attempts():
    reconnecting, waits = hurried()
    async with scripted(serve_one, handshakes=100 * [cut_off]) as url:
        with pytest.raises(ServerUnreachable):
            async with connect(url, model="toy", reconnecting=reconnecting):
                pass
    assert len(waits) == MAX_CUT_OFF


async def test_a_server_that_is_not_there_yet_is_waited_for_where_that_is_asked(
    unused_tcp_port,
):
    attempted = asyncio.Event()
    reconnecting, _ = hurried(
        wait_for_server=True, on_wait=lambda waiting: attempted.set()
    )
    url = f"ws://127.0.0.1:{unused_tcp_port}"

    async def session():
        async with connect(url, model="toy", reconnecting=reconnecting) as stream:
            return await stream.close()

    playing = asyncio.create_task(session())
    await attempted.wait()
    async with scripted(serve_one, port=unused_tcp_port):
        assert await playing == FINAL


def test_the_blocking_sdk_waits_for_a_server_that_drains(served):
    reconnecting, waits = hurried()
    url = served(SCRIPTS["goaway instead of opened"][0], serve_one)
    with blocking.connect(url, model="toy", reconnecting=reconnecting) as stream:
        assert stream.close() == FINAL
    assert [w.attempt for w in waits] == [1]


def test_the_blocking_sdk_that_never_waits_raises_that_the_server_stops(served):
    url = served(SCRIPTS["goaway instead of opened"][0])
    with (
        pytest.raises(ServerUnavailable, match="no new session now: the server is st"),
        blocking.connect(url, model="toy", reconnecting=NEVER),
    ):
        pass


def test_saccade_stream_reports_in_one_line_that_it_waits(served, capsys):
    async def play(peer):
        await peer.open()
        while isinstance(frame := decode_client(await peer.socket.recv()), EventsFrame):
            await peer.send(Ack(frame.seq, 10**6, 10**6))
        await peer.send(FINAL)
        await peer.socket.close()

    full = SCRIPTS["full"][0]
    url = served(SCRIPTS["goaway instead of opened"][0], full, full, play)
    source = "sim:motions?seconds=0.02"
    assert stream_command([source, "--url", url, "--speed", "max", "--json"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"saccade stream: the server at {url} takes no new")
    assert lines[0].endswith("trying again for up to 120 s")
