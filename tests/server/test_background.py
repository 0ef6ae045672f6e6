"""Work in the background goes on, whatever it raises."""

from __future__ import annotations

import asyncio

from saccade.server.background import PERSISTENT, Background


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
