from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, strategies as st

from saccade.server.protocol.errors import CreditExceeded
from saccade.server.protocol.messages import (
    Ack,
    Flushed,
    Result,
    ResultBatch,
    ServerMessage,
)
from saccade.server.transport.send_queue import Ending, SendQueue


def result(ticks: int, superseded: int = 0) -> Result:
    """A result that stands for so many others beside itself."""
    message = Result(0, ticks, 2 * ticks, 0, [1.0], "up", 1.0)
    return replace(message, superseded=superseded)


def flushed(number: int) -> Flushed:
    return Flushed(number, 0, 0, 0, 0)


def batch(numbers: list[int]) -> ResultBatch:
    """The results of these numbers in one object."""
    count = len(numbers)
    columns = ([0] * count, [[1.0]] * count, ["up"] * count, [1.0] * count)
    return ResultBatch(0, 2, numbers, *columns)


def drained(queue: SendQueue) -> list[ServerMessage]:
    out: list[ServerMessage] = []
    for message in queue.take_all():
        out += message if isinstance(message, ResultBatch) else [message]
    return out


def test_messages_leave_in_their_order() -> None:
    queue = SendQueue(10)
    messages = [result(1), flushed(1), Ack(1, 2, 3), result(2)]
    for message in messages:
        queue.put(message)
    assert drained(queue) == messages


def test_an_ack_takes_the_place_of_the_one_right_before_it() -> None:
    queue = SendQueue(10)
    for message in (Ack(1, 1, 1), Ack(2, 2, 2), result(1), Ack(3, 3, 3)):
        queue.put(message)
    assert drained(queue) == [Ack(2, 2, 2), result(1), Ack(3, 3, 3)]


def test_a_full_box_keeps_the_newest_result_only() -> None:
    queue = SendQueue(2)
    for ticks in range(1, 10):
        queue.put(result(ticks))
    assert drained(queue) == [result(1), result(9, 7)]
    assert queue.superseded == 7


def test_whoever_wants_the_latest_never_has_two_results_waiting() -> None:
    queue = SendQueue(10)
    queue.most_results = 1
    for message in (result(1), Ack(1, 1, 1), result(2), flushed(1), result(3)):
        queue.put(message)
    queue.put(result(4))
    assert drained(queue) == [result(2, 1), Ack(1, 1, 1), flushed(1), result(4, 1)]
    assert queue.superseded == 2
    queue.put(result(5))
    assert drained(queue) == [result(5)]


MOVES = st.lists(st.sampled_from(["result", "ack", "flushed", "take"]), max_size=200)


def play(moves: list[str]) -> list[ServerMessage]:
    """Put and take, numbering messages by their move; return what came out."""
    queue, out = SendQueue(4), list[ServerMessage]()
    make = {"result": result, "ack": lambda n: Ack(n, n, n), "flushed": flushed}
    for n, move in enumerate(moves):
        if move == "take":
            out += drained(queue)
        else:
            queue.put(make[move](n))
        assert len(queue) <= 4 + 3 * moves[: n + 1].count("flushed") + 2
    return out + drained(queue)


@given(MOVES)
def test_every_answer_leaves_and_the_newest_ack_does_too(moves: list[str]) -> None:
    out = play(moves)
    asked = [n for n, move in enumerate(moves) if move == "flushed"]
    assert [message.id for message in out if isinstance(message, Flushed)] == asked
    acks = [message.seq for message in out if isinstance(message, Ack)]
    assert acks == sorted(acks)
    assert acks[-1:] == [n for n, move in enumerate(moves) if move == "ack"][-1:]


@given(MOVES)
def test_no_result_passes_an_answer_that_was_asked_for_before_it(
    moves: list[str],
) -> None:
    numbers = [
        message.id if isinstance(message, Flushed) else message.ticks
        for message in play(moves)
        if not isinstance(message, Ack)
    ]
    assert numbers == sorted(numbers)


@given(MOVES)
def test_each_result_is_sent_or_counted_by_the_one_that_replaced_it(
    moves: list[str],
) -> None:
    sent = [message for message in play(moves) if isinstance(message, Result)]
    counted = len(sent) + sum(message.superseded for message in sent)
    assert counted == moves.count("result")


@given(MOVES, st.integers(1, 5))
def test_results_put_together_leave_as_if_put_one_by_one(
    moves: list[str], most_results: int
) -> None:
    apart, together = SendQueue(4), SendQueue(4)
    apart.most_results = together.most_results = most_results
    out: tuple[list[ServerMessage], list[ServerMessage]] = [], []
    for kind, run in groupby(enumerate(moves), lambda each: each[1]):
        numbers = [number for number, _ in run]
        if kind == "result":
            together.put_results(batch(numbers))
            assert len(together) <= 4 + sum(move == "flushed" for move in moves) + 2
        for number in numbers:
            if kind == "result":
                apart.put(result(number))
            elif kind == "take":
                out[0].extend(drained(apart))
                out[1].extend(drained(together))
            else:
                answer = Ack(number, 0, 0) if kind == "ack" else flushed(number)
                apart.put(answer)
                together.put(answer)
        assert len(apart) == len(together)
    assert [*out[0], *drained(apart)] == [*out[1], *drained(together)]
    assert apart.superseded == together.superseded


def test_a_client_may_not_ask_for_more_answers_than_it_reads() -> None:
    queue = SendQueue(3)
    for number in range(3):
        queue.put(flushed(number))
    queue.put(result(1))
    queue.check()
    queue.put(flushed(3))
    with pytest.raises(CreditExceeded):
        queue.check()


class SlowWriter:
    """Records when it is asked to write."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def write_soon(self) -> None:
        self.asked.append("soon")

    def write_now(self) -> None:
        self.asked.append("now")


def test_a_writer_is_asked_after_each_message_and_at_once_after_scores() -> None:
    queue, writer = SendQueue(10), SlowWriter()
    queue.attach(writer)
    queue.put(result(1))
    queue.put_results(batch([2, 3]))
    queue.progressed()
    queue.end(Ending(1000))
    assert writer.asked == ["soon", "soon", "now", "soon"]
    assert queue.filled


async def test_without_a_writer_who_waits_is_woken_by_a_message_or_the_end() -> None:
    for fill in (lambda queue: queue.put(result(1)), lambda q: q.end(Ending(1000))):
        queue = SendQueue(10)
        waiting = asyncio.create_task(queue.wait_until_filled())
        await asyncio.sleep(0)
        assert not queue.filled
        fill(queue)
        await waiting
