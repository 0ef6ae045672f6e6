"""Work in the background goes on, whatever it raises."""

from __future__ import annotations

import asyncio
import logging

import pytest

from saccade.server.background import PERSISTENT, Background
from saccade.server.logs import MOST_OF_A_KIND, PERIOD_S, Bound


async def test_work_that_fails_is_counted_tried_again_and_a_concern_meanwhile(caplog):
    counted, concerns, done = [], [], asyncio.Event()
    background = Background(lambda *noted: counted.append(noted))

    async def work():
        concerns.append(background.concerns)
        if len(concerns) <= PERSISTENT:
            raise OSError(24, "too many open files")
        if len(concerns) == PERSISTENT + 2:
            done.set()

    background.repeat("the look", 0.001, work)
    await done.wait()
    background.stop()
    new, works = [("the look", 0)], [("the look", 0)]
    assert counted == [*new, *[("the look", n + 1) for n in range(PERSISTENT)], *works]
    assert concerns[:PERSISTENT] == [()] * PERSISTENT
    (concern,) = concerns[PERSISTENT]
    assert concern.startswith("the look has failed 3 times: OSError")
    assert concerns[-1] == ()
    assert "works again, after 3 failures" in caplog.text


async def test_one_work_s_failure_leaves_the_others_alone():
    counts = {"bad": 0, "good": 0}
    enough = asyncio.Event()
    background = Background(lambda name, failures: None)

    async def bad():
        counts["bad"] += 1
        raise ZeroDivisionError

    async def good():
        counts["good"] += 1
        if counts["good"] > 5 and counts["bad"] > 1:
            enough.set()

    background.repeat("bad", 0.001, bad)
    background.repeat("good", 0.001, good)
    await enough.wait()
    background.stop()


@pytest.fixture
def bounded():
    """Return a logger, its lines so far, and its clock."""
    now_s, lines = [0.0], []
    handler = logging.Handler()
    handler.addFilter(Bound(lambda: now_s[0]))
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.Logger("bounded")
    logger.addHandler(handler)
    return logger, lines, now_s


def test_a_kind_of_line_is_bounded_and_the_rest_counted(bounded):
    logger, lines, now_s = bounded
    for number in range(1000):
        logger.warning("no. %d of %s", number, "many")
        logger.error("100 % of another")
    assert len(lines) == 2 * MOST_OF_A_KIND
    now_s[0] = PERIOD_S
    logger.warning("no. %d of %s", 7, "many")
    assert lines[-1] == "no. 7 of many (990 more like this were not logged)"


def test_tracebacks_of_one_cause_are_one_kind(bounded):
    logger, lines, _ = bounded
    for number in range(100):
        logger.error(f"socket.accept() out of system resource\nsocket: {number}")
    assert len(lines) == MOST_OF_A_KIND


def test_a_kind_may_be_named(bounded):
    logger, lines, _ = bounded
    for number in range(100):
        logger.info("refused %d", number, extra={"kind": f"code {number % 2}"})
    assert len(lines) == 2 * MOST_OF_A_KIND
