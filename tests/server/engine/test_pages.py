from __future__ import annotations

import os
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from saccade.model.tokens import FollowingChunk, PrecedingChunk, TokenChunk
from saccade.server.engine import host_kernels
from saccade.server.engine.page_queues import PageQueues
from saccade.server.engine.ticks import KEPT_BYTES, OutOfPages, TickArena
from tests.toy import chunk, running

TICK, CLASSES = 3, 2


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


@given(st.lists(st.lists(st.integers(0, 10**6), max_size=12), max_size=12))
def test_pages_hold_the_events_that_were_written_however_they_were_cut(
    gaps_us: list[list[int]],
) -> None:
    arena = TickArena(TICK, CLASSES, 200)
    gaps = np.array([gap for part in gaps_us for gap in part], np.int64)
    t_us, count = 7 + np.cumsum(gaps), len(gaps)
    whole = TokenChunk(numbered(count), (gaps / 1000).astype(np.float32), t_us)
    pages = arena.take(-(-count // TICK))[::-1].copy()
    again = arena.take(len(pages))
    written, before_us = 0, 7
    for part in gaps_us:
        cut = slice(written, written + len(part))
        place = written // TICK, written % TICK
        chunk = TokenChunk(*(column[cut] for column in whole))
        arena.fill(pages[place[0] :], place[1], chunk)
        without = PrecedingChunk(chunk.tokens, chunk.t_us, before_us)
        arena.fill(again[place[0] :], place[1], without)
        written += len(part)
        before_us = int(t_us[written - 1]) if written else before_us
    for read in (arena.events(pages, count), arena.events(again, count)):
        for column, expected in zip(read, whole, strict=True):
            assert column.tolist() == expected.tolist()


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=12), st.data())
def test_a_gap_left_to_be_computed_in_pages_is_that_of_the_events_outside_them(
    steps_us: list[int], data: st.DataObject
) -> None:
    arena = TickArena(TICK, CLASSES, 20)
    t_us, begin = (
        np.cumsum(np.array(steps_us, np.int64)),
        data.draw(st.integers(0, TICK - 1)),
    )
    edge_us = int(t_us[-1]) + data.draw(st.integers(-5, 10**6))
    before = chunk([1] * begin)
    for kind in (PrecedingChunk, FollowingChunk):
        without = kind(numbered(len(t_us)), t_us, edge_us)
        pages = arena.take(-(-(begin + len(t_us)) // TICK))
        arena.fill(pages, 0, before)
        arena.fill(pages, begin, without)
        written = arena.events(pages, begin + len(t_us))
        expected = without.with_gaps()
        assert written.tokens[begin:].tolist() == expected.tokens.tolist()
        assert written.dt_ms[begin:].tolist() == expected.dt_ms.tolist()


def test_no_gap_is_negative_where_time_comes_back_from_a_false_step() -> None:
    arena = TickArena(TICK, CLASSES, 10)
    pages = arena.take(2)[::-1].copy()
    t_us = np.array([1_005, 10, 2_010, 15], np.int64)
    arena.fill(pages, 0, PrecedingChunk(numbered(4), t_us, 5))
    assert arena.events(pages, 4).dt_ms.tolist() == [1, 0, 2, 0]
    arena.fill(pages, 0, FollowingChunk(numbered(4), t_us, 5))
    assert arena.events(pages, 4).dt_ms.tolist() == [0, 2, 0, 0]


def test_columns_of_a_wider_array_are_taken_as_well() -> None:
    arena = TickArena(TICK, CLASSES, 10)
    wide = np.zeros(3, [("t", "<i8"), ("x", "<u2")])
    wide["t"] = [1005, 2005, 3005]
    part = chunk([1, 2, 3])._replace(t_us=wide["t"])
    pages = arena.take(1)
    arena.fill(pages, 0, part)
    assert arena.events(pages, 3).t_us.tolist() == [1005, 2005, 3005]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_a_page_belongs_to_one_user_until_it_is_free(
    moves: list[tuple[bool, int]],
) -> None:
    arena = TickArena(TICK, CLASSES, 50)
    held: list[int] = []
    for takes, count in moves:
        if not takes:
            arena.free(np.array(held[:count], np.int32))
            del held[:count]
        elif len(held) + count > arena.pages:
            with pytest.raises(OutOfPages, match="all 50 pages"):
                arena.take(count)
        else:
            held += arena.take(count).tolist()
        assert len(set(held)) == len(held) == arena.used
        assert all(0 <= page < arena.pages for page in held)


def test_an_arena_that_is_empty_again_gives_its_memory_back() -> None:
    arena = TickArena(256, 11, 40_000)
    pages = arena.take(KEPT_BYTES // 2048 + 100)
    arena.words[pages] = 1
    arena.free(pages)
    assert not arena.words[pages].any(), "the system has given other, empty memory"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "pop"]), st.integers(0, 4), st.integers(1, 9)
        )
    )
)
def test_pages_leave_a_slot_s_queue_in_the_order_in_which_they_came(
    moves: list[tuple[str, int, int]],
) -> None:
    queues, expected = PageQueues(5), [deque[int]() for _ in range(5)]
    page = 0
    for move, slot, count in moves:
        if move == "push":
            slots = np.array([slot, (slot + 1) % 5] * count, np.int32)
            pages = np.arange(page, page + 2 * count, dtype=np.int32)
            queues.push(slots, pages)
            for s, p in zip(slots.tolist(), pages.tolist(), strict=True):
                expected[s].append(p)
            page += 2 * count
        else:
            counts = [min(count, len(expected[s])) for s in (slot, (slot + 2) % 5)]
            taken = queues.pop(
                np.array([slot, (slot + 2) % 5], np.int32), np.array(counts, np.int32)
            )
            wanted = [
                expected[s].popleft()
                for s, c in zip((slot, (slot + 2) % 5), counts, strict=True)
                for _ in range(c)
            ]
            assert taken.tolist() == wanted


def test_a_queue_that_is_used_for_ever_takes_no_more_memory() -> None:
    queues = PageQueues(2)
    for start in range(0, 10_000, 10):
        queues.push(np.zeros(10, np.int32), numbered(10) + start)
        taken = queues.pop(np.zeros(1, np.int32), np.full(1, 10, np.int32))
        assert taken.tolist() == [*range(start, start + 10)]
    assert len(queues._pages) <= 1024


def test_a_row_of_a_batch_is_its_pages_and_then_zeros() -> None:
    arena = TickArena(TICK, CLASSES, 10)
    pages = arena.take(3)
    arena.fill(pages, 0, chunk([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    tokens = np.full((3, 2 * TICK), 99, np.int32)
    dt_ms = np.full((3, 2 * TICK), 99.0, np.float32)
    counts = np.array([9, 1, 2], np.int32)  # the first row is another front end's
    host_kernels.pack_rows(
        arena.words, arena.floats, pages, counts, 1, 2, TICK, tokens, dt_ms
    )
    assert tokens.tolist() == [[99] * 6, [1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]]
    assert dt_ms.tolist() == [[99.0] * 6, [1.0] * 3 + [0.0] * 3, [1.0] * 6]


def test_scores_come_back_in_the_pages_of_their_ticks() -> None:
    arena = TickArena(TICK, CLASSES, 10)
    pages = arena.take(3)
    arena.fill(pages, 0, chunk([0] * 9, t_us=100))
    logits = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    counts = np.array([1, 2], np.int32)
    host_kernels.write_scores(arena.floats, pages, counts, 0, 2, TICK, logits)
    scores, ends, finite = arena.scores(pages)
    assert scores.tolist() == [[0, 1], [6, 7], [8, 9]]
    assert ends.tolist() == [102, 105, 108]
    assert finite
    logits[1, 1, 0] = np.nan
    host_kernels.write_scores(arena.floats, pages, counts, 0, 2, TICK, logits)
    assert not arena.scores(pages)[2]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory files are Linux's")
def test_another_process_maps_the_pages_that_are_there_and_no_others() -> None:
    file = os.memfd_create("pages")
    here = TickArena(TICK, CLASSES, 100, file)
    pages = here.take(2)
    here.fill(pages, 0, chunk([1, 2, 3, 4, 5, 6]))
    there = TickArena(TICK, CLASSES, here.pages, file)
    assert there.events(pages, 6).tokens.tolist() == [1, 2, 3, 4, 5, 6]
    size = os.fstat(file).st_size
    with pytest.raises(ValueError, match="file size"):
        TickArena(TICK, CLASSES, 100_000, file)
    assert os.fstat(file).st_size == size, "the first one's pages stay"
    os.close(file)


def test_without_numba_the_same_functions_score_a_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, function in vars(host_kernels).items():
        if hasattr(function, "py_func"):
            monkeypatch.setattr(host_kernels, name, function.py_func)
    with running() as (engine, recorder):
        lease = engine.open("toy", float("inf"))
        engine.submit(lease, chunk([1, 3, 5]))
        engine.submit(lease, chunk([7, 9]))
        recorder.wait(lambda: len(recorder.scores(lease)) == 2)
        assert recorder.scores(lease) == [2.0, 7.0]
