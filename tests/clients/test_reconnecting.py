"""Backoff under a fake clock: how long a client waits, and when it gives up."""

from __future__ import annotations

import logging

import pytest

from saccade.clients.errors import (
    ConnectionLost,
    RequestRefused,
    ServerUnavailable,
    ServerUnreachable,
    StreamError,
)
from saccade.clients.reconnecting import NEVER, Attempts, Reconnecting
from tests.clients.scripted import FakeTime

BUSY = ServerUnavailable("ws://h", "it starts")
LOST = ConnectionLost(1006, "")
NOWHERE = ServerUnreachable("ws://h", "connection refused")


def refused(code):
    return StreamError(code, "no", fatal=True)


async def failing(attempts, failure, most=1000):
    """Fail again and again; return the error that ends the attempts."""
    for _ in range(most):
        try:
            await attempts.wait(failure)
        except Exception as error:
            return error
    raise AssertionError("the attempts never ended")


def fresh(lost=None, **changes):
    time, waits = FakeTime(), []
    reconnecting = Reconnecting(on_wait=waits.append, **changes)
    return Attempts(reconnecting, lost, time.clock()), time, waits


async def test_waits_grow_to_their_bound_and_end_within_the_time_to_give_up():
    attempts, time, waits = fresh(first_s=0.1, most_s=5.0, give_up_s=120.0)
    assert await failing(attempts, BUSY) is BUSY
    assert time.slept[0] <= 0.1
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * (len(time.slept) - 6)]
    for slept, bound in zip(time.slept[1:], bounds, strict=True):
        assert bound / 2 <= slept <= bound
    assert 115 < sum(time.slept) < 120
    assert [w.wait_s for w in waits] == time.slept
    assert [w.attempt for w in waits] == list(range(1, len(waits) + 1))
    assert waits[-1].left_s == pytest.approx(120 - sum(time.slept))


async def test_a_lost_connection_is_what_is_raised_in_the_end():
    attempts, _, _ = fresh(LOST)
    await attempts.wait(LOST)
    assert await failing(attempts, NOWHERE) is LOST


async def test_never_does_not_wait_at_all():
    time = FakeTime()
    for lost in (None, LOST):
        attempts = Attempts(NEVER, lost, time.clock())
        assert await failing(attempts, lost or BUSY, most=1) is (lost or BUSY)
    assert not time.slept


async def test_the_server_s_own_time_is_waited_for_and_a_little_more():
    attempts, time, _ = fresh()
    await attempts.wait(ServerUnavailable("ws://h", "it restarts", 2.0))
    assert 2.0 <= time.slept[0] <= 2.1
    attempts, time, _ = fresh(LOST)
    await attempts.wait(LOST, at_least_s=3.0)
    assert 3.0 <= time.slept[0] <= 3.1


async def test_nowhere_at_the_very_start_is_an_error_and_later_a_restart():
    attempts, time, _ = fresh()
    assert await failing(attempts, NOWHERE, most=1) is NOWHERE
    assert not time.slept
    attempts, _, _ = fresh()
    await attempts.wait(BUSY)
    await attempts.wait(NOWHERE)
    attempts, _, _ = fresh(wait_for_server=True)
    await attempts.wait(NOWHERE)


@pytest.mark.parametrize(
    ("code", "opening", "resuming"),
    [
        ("not_ready", True, True),
        ("slots_exhausted", True, True),
        ("rate_exceeded", True, True),
        ("too_many_sessions", False, True),
        ("unknown_model", False, False),
        ("unknown_session", False, False),
        ("taken_over", False, False),
    ],
)
async def test_a_refusal_is_waited_for_only_where_that_can_help(
    code, opening, resuming
):
    failure = refused(code)
    for lost, expected in ((None, opening), (LOST, resuming)):
        attempts, time, _ = fresh(lost, give_up_s=0.5)
        assert await failing(attempts, failure) is (
            lost if expected and lost else failure
        )
        assert bool(time.slept) == expected


async def test_another_key_is_not_waited_for():
    for lost in (None, LOST):
        attempts, time, _ = fresh(lost)
        failure = RequestRefused(401, "unauthorized", "a key is needed")
        assert await failing(attempts, failure, most=1) is failure
        assert not time.slept


async def test_a_wait_is_logged_where_nothing_else_is_done_with_it(caplog):
    attempts = Attempts(Reconnecting(), clock=FakeTime().clock())
    with caplog.at_level(logging.WARNING, "saccade.clients"):
        await attempts.wait(BUSY)
    assert "it starts; trying again in" in caplog.text
