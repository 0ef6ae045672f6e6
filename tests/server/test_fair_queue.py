"""Who was served least goes first, and nobody saves up a claim."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from saccade.server.fair_queue import FairQueue


def served_once(queue: FairQueue[str], amount: int) -> str:
    member = queue.take()
    queue.serve(member, amount)
    return member


@given(st.integers(1, 20), st.integers(1, 10), st.integers(0, 40))
def test_one_that_asks_for_little_waits_for_none_of_those_that_ask_for_much(
    floods: int, amount: int, more: int
) -> None:
    queue = FairQueue[str]()
    for name in map(str, range(floods)):
        queue.enter(name, 10)
    for _ in range(20):
        for _ in range(2 * floods + more):
            queue.enter(served_once(queue, 10))
        queue.enter("little", 10)
        assert served_once(queue, amount) == "little"


@given(st.lists(st.integers(1, 50), min_size=2, max_size=10))
def test_those_that_always_wait_are_served_equally_much(amounts: list[int]) -> None:
    queue, had = FairQueue[int](), dict.fromkeys(range(len(amounts)), 0)
    for member in had:
        queue.enter(member)
    for _ in range(500):
        member = queue.take()
        queue.serve(member, amounts[member])
        had[member] += amounts[member]
        queue.enter(member)
    assert max(had.values()) - min(had.values()) <= 2 * max(amounts)


def test_what_one_did_not_use_is_not_saved_up_for_it() -> None:
    queue = FairQueue[str]()
    queue.enter("early")
    served_once(queue, 1)
    for name in ("one", "other"):
        queue.enter(name)
    for _ in range(100):
        queue.enter(served_once(queue, 10))
    turns = []
    queue.enter("early")
    for _ in range(9):
        turns.append(served_once(queue, 10))
        queue.enter(turns[-1])
    assert turns.count("early") <= 4, "no more than the others, and one"


def test_one_that_was_alone_does_not_wait_for_those_that_come_to_catch_up() -> None:
    queue = FairQueue[str]()
    for _ in range(100):
        queue.enter("alone", 64)
        served_once(queue, 9)
    for k in range(20):
        queue.enter(f"new {k}", 64)
    queue.enter("alone", 64)
    turns = [served_once(queue, 9) for _ in range(21)]
    assert turns.index("alone") == 20, "they stood in line before"
    for k in range(20):
        queue.enter(f"new {k}", 64)
    queue.enter("alone", 64)
    for k in range(20):
        assert queue.owes_none(f"new {k}") == queue.owes_none("alone")


def test_who_was_served_beyond_its_turn_owes() -> None:
    queue = FairQueue[str]()
    assert queue.owes_none("new")
    queue.serve("one", 5)
    assert not queue.owes_none("one")
    queue.enter("other")
    served_once(queue, 10)
    queue.enter("other")
    queue.take()
    assert queue.owes_none("one"), "those whose turn it is have had more"


def test_nothing_is_kept_of_one_that_is_forgotten() -> None:
    queue = FairQueue[str]()
    queue.enter("one")
    queue.forget("one")
    assert len(queue) == 1
    assert queue.take() == "one"
    assert not vars(queue)["_served"]
    with pytest.raises(IndexError):
        queue.take()
