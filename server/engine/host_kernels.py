"""Compiled loops of the host path: pages, queues of pages, and the choice of a batch.

Each is plain Python over NumPy arrays, compiled by numba; loops over events release the
GIL, so that the event loop and the device thread run side by side. Where numba is
missing the same functions run as they are, slowly. Nothing is allocated and nothing is
checked: the classes around them (`TickArena`, `PageQueues`, `Scheduler`) keep indices
in range.

A page is one row of an arena, `words[page]`, of which `floats` and `longs` are views:

    words   [0, T)          tokens, int32
    floats  [T, 2T)         integration timesteps, float32, ms
    longs   [T]             the last event's timestamp, int64, µs
    floats  [2T + 2, … + C) the scores after the tick, float32
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

try:
    from numba import types

    from saccade.model.kept_code import compiled_for
except ModuleNotFoundError:  # a machine without numba
    types = None

Function = TypeVar("Function", bound=Callable[..., Any])
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

NONE: Final = -1
"""The index of no slot and of no node."""

FIRST, LAST, SLOTS, TICKS = range(4)
"""Places in a scheduler's `marks`: the line's ends, its slots and its ticks."""

NOW: Final = 4
"""The place after them: how far those are served whose turn it is, in ticks."""

LAUNCH, PADDING, ROW = range(3)
"""Places in a scheduler's `costs`: of a call, of a tick without work, of a slot."""

FREE, UNUSED = range(2)
"""Places in the `marks` of page queues: the first free node, and the first new one."""


def _compiled(
    *arguments: str, releases_lock: bool = False
) -> Callable[[Function], Function]:
    """Compile for these arguments, now or from numba's cache.

    The device thread's loops over events release Python's lock. The event loop's do
    not: a thread that gives the lock up for microseconds wakes the other one, and
    waits for it.

    An argument is a letter for its type (i int32, l int64, f float32, d float64), its
    number of dimensions if it is an array, and `!` if the function writes to it.
    """
    if types is None:
        return lambda function: function
    kinds = tuple(map(_type_of, arguments))
    compile_one: Callable[[Function], Function]
    compile_one = compiled_for(kinds, nogil=releases_lock)
    return compile_one


def _type_of(argument: str) -> Any:
    scalar = {"i": "int32", "l": "int64", "f": "float32", "d": "float64"}[argument[0]]
    kind = getattr(types, scalar)
    if len(argument) == 1:
        return kind
    readonly = not argument.endswith("!")
    return types.Array(kind, int(argument[1]), "C", readonly=readonly)


@_compiled("i2!", "f2!", "l2!", "i1", "l", "l", "i1", "f1", "l1", "l", "l")
def fill_pages(
    words: Ints,
    floats: Floats,
    longs: Longs,
    pages: Ints,
    begin: int,
    tick: int,
    tokens: Ints,
    dt_ms: Floats,
    t_us: Longs,
    edge_us: int,
    follows: int,
) -> None:
    """Write events to pages, one after another, from place `begin` of the first.

    Without timesteps each event gets the gap before it, from the time `edge_us` on; or,
    where `follows` is not 0, the gap after it, up to that time. Where time came back
    from a false step, none.
    """
    place, k, i = begin, 0, 0
    before_us = edge_us
    while i < len(tokens):
        count = min(tick - place, len(tokens) - i)
        page, times = pages[k], t_us[i : i + count]
        # Slices: LLVM makes vectors of loops over them, not of those over `words`.
        words[page][place : place + count] = tokens[i : i + count]
        gaps_ms = floats[page][tick + place : tick + place + count]
        if len(dt_ms):
            gaps_ms[:] = dt_ms[i : i + count]
        elif follows:
            for j in range(count - 1):
                gaps_ms[j] = max(0, times[j + 1] - times[j]) / 1000.0
            next_us = t_us[i + count] if i + count < len(tokens) else edge_us
            gaps_ms[count - 1] = max(0, next_us - times[count - 1]) / 1000.0
        else:
            gaps_ms[0] = max(0, times[0] - before_us) / 1000.0
            for j in range(1, count):
                gaps_ms[j] = max(0, times[j] - times[j - 1]) / 1000.0
        i += count
        before_us = times[count - 1]
        longs[page, tick] = before_us
        place, k = 0, k + 1


@_compiled("i2", "f2", "l2", "i1", "l", "i1!", "f1!", "l1!")
def read_events(
    words: Ints,
    floats: Floats,
    longs: Longs,
    pages: Ints,
    tick: int,
    tokens: Ints,
    dt_ms: Floats,
    t_us: Longs,
) -> None:
    """Copy the events of pages, the last of which may hold fewer.

    A page's last timestamp is exact, those before it are as exact as the gaps.
    """
    for k in range(len(pages)):
        page, start = pages[k], k * tick
        count = min(tick, len(tokens) - start)
        time_us = longs[page, tick]
        for place in range(count - 1, -1, -1):
            gap_ms = floats[page, tick + place]
            tokens[start + place] = words[page, place]
            dt_ms[start + place] = gap_ms
            t_us[start + place] = time_us
            time_us -= np.int64(np.round(np.float64(gap_ms) * 1000.0))


@_compiled("f2", "l2", "i1", "l", "f2!", "l1!")
def read_scores(
    floats: Floats, longs: Longs, pages: Ints, tick: int, logits: Floats, ends: Longs
) -> int:
    """Copy the scores of pages and their last timestamps; return whether all finite."""
    finite, first = 1, 2 * tick + 2
    for k in range(len(pages)):
        page = pages[k]
        ends[k] = longs[page, tick]
        for c in range(logits.shape[1]):
            value = floats[page, first + c]
            if not np.isfinite(value):
                finite = 0
            logits[k, c] = value
    return finite


@_compiled("f2!", "i1", "i1", "l", "l", "l", "f3", releases_lock=True)
def write_scores(
    floats: Floats,
    pages: Ints,
    counts: Ints,
    first_row: int,
    rows: int,
    tick: int,
    logits: Floats,
) -> None:
    """Write a batch's scores to the pages of some consecutive rows."""
    k, first = 0, 2 * tick + 2
    for row in range(first_row, first_row + rows):
        for turn in range(counts[row]):
            for c in range(logits.shape[2]):
                floats[pages[k], first + c] = logits[row, turn, c]
            k += 1


@_compiled("i2", "f2", "i1", "i1", "l", "l", "l", "i2!", "f2!", releases_lock=True)
def pack_rows(
    words: Ints,
    floats: Floats,
    pages: Ints,
    counts: Ints,
    first_row: int,
    rows: int,
    tick: int,
    tokens: Ints,
    dt_ms: Floats,
) -> None:
    """Copy pages into some consecutive rows of a batch, and clear the rest of each."""
    k = 0
    for row in range(first_row, first_row + rows):
        place = 0
        for _ in range(counts[row]):
            page = pages[k]
            for i in range(tick):
                tokens[row, place + i] = words[page, i]
                dt_ms[row, place + i] = floats[page, tick + i]
            place += tick
            k += 1
        tokens[row, place:] = 0
        dt_ms[row, place:] = 0.0


@_compiled("l1!", "i1!", "i1!", "i1!", "i1!", "i1", "i1")
def push_pages(
    marks: Longs,
    heads: Ints,
    tails: Ints,
    following: Ints,
    node_pages: Ints,
    slots: Ints,
    pages: Ints,
) -> None:
    """Append each page to its slot's queue; enough nodes must be free or unused."""
    for i in range(len(slots)):
        node, slot = marks[FREE], slots[i]
        if node == NONE:
            node = marks[UNUSED]
            marks[UNUSED] += 1
        else:
            marks[FREE] = following[node]
        following[node] = NONE
        node_pages[node] = pages[i]
        if tails[slot] == NONE:
            heads[slot] = node
        else:
            following[tails[slot]] = node
        tails[slot] = node


@_compiled("l1!", "i1!", "i1!", "i1!", "i1", "i1", "i1", "i1!")
def pop_pages(
    marks: Longs,
    heads: Ints,
    tails: Ints,
    following: Ints,
    node_pages: Ints,
    slots: Ints,
    counts: Ints,
    pages: Ints,
) -> None:
    """Take the oldest `counts[i]` pages of each slot, in order."""
    k = 0
    for i in range(len(slots)):
        slot = slots[i]
        for _ in range(counts[i]):
            node = heads[slot]
            pages[k] = node_pages[node]
            heads[slot] = following[node]
            following[node] = marks[FREE]
            marks[FREE] = node
            k += 1
        if heads[slot] == NONE:
            tails[slot] = NONE


@_compiled("l1!", "i1!", "i1!", "i1!", "l1!", "l1!", "i1", "i1", "l")
def add_ticks(
    marks: Longs,
    waiting: Ints,
    after: Ints,
    before: Ints,
    served: Longs,
    keys: Longs,
    slots: Ints,
    counts: Ints,
    ahead: int,
) -> None:
    """Add ticks to slots; one that had none enters the line by its key.

    The line is in order of keys and, among equals, of arrival. A slot's key is the
    ticks it was served, less `ahead`. What it did not use is not saved up for it.
    """
    for i in range(len(slots)):
        slot, count = slots[i], counts[i]
        if count <= 0:
            continue
        if waiting[slot] == 0:
            served[slot] = max(served[slot], marks[NOW])
            key = served[slot] - ahead
            keys[slot] = key
            last, following = marks[LAST], NONE
            while last != NONE and keys[last] > key:
                last, following = before[last], last
            before[slot], after[slot] = last, following
            if last == NONE:
                marks[FIRST] = slot
            else:
                after[last] = slot
            if following == NONE:
                marks[LAST] = slot
            else:
                before[following] = slot
            marks[SLOTS] += 1
        waiting[slot] += count
        marks[TICKS] += count


@_compiled("l1!", "i1!", "i1!", "i1!", "i1", "i1", "i1!")
def take_ticks(
    marks: Longs,
    waiting: Ints,
    after: Ints,
    before: Ints,
    slots: Ints,
    counts: Ints,
    left: Ints,
) -> None:
    """Take ticks from slots, which leave the line; write how many each has left."""
    for i in range(len(slots)):
        slot = slots[i]
        left[i] = 0
        if waiting[slot] == 0:
            continue
        left[i] = waiting[slot] - counts[i]
        marks[TICKS] -= waiting[slot]
        marks[SLOTS] -= 1
        waiting[slot] = 0
        if before[slot] == NONE:
            marks[FIRST] = after[slot]
        else:
            after[before[slot]] = after[slot]
        if after[slot] == NONE:
            marks[LAST] = before[slot]
        else:
            before[after[slot]] = before[slot]


@_compiled("l1", "i1", "l1", "l")
def count_owed(marks: Longs, after: Ints, keys: Longs, behind: int) -> int:
    """Return how many slots at the line's front are so far behind those served now."""
    count, slot = 0, marks[FIRST]
    while slot != NONE and keys[slot] + behind <= marks[NOW]:
        count += 1
        slot = after[slot]
    return count


@_compiled("l1", "i1", "i1", "l2", "d1", "l", "i1!", "i1!")
def choose_bucket(
    marks: Longs,
    waiting: Ints,
    after: Ints,
    buckets: Longs,
    costs: Doubles,
    most_slots: int,
    slots: Ints,
    counts: Ints,
) -> int:
    """Choose the bucket with most real work per cost; write its slots and counts.

    The candidates are prefixes of the line, of at most so many slots. Among equals the
    one with more work wins, then the first.
    """
    front, slot = 0, marks[FIRST]
    while slot != NONE and front < min(len(slots), most_slots):
        slots[front], counts[front] = slot, waiting[slot]
        front += 1
        slot = after[slot]
    best, best_rate, best_work, best_most = 0, -1.0, 0, 0
    for b in range(len(buckets)):
        rows, most = buckets[b, 0], buckets[b, 1]
        padded, work = rows * most, 0
        for i in range(min(front, rows)):
            work += min(counts[i], most)
        cost = costs[LAUNCH] + work + costs[PADDING] * (padded - work)
        cost += costs[ROW] * min(front, rows)
        rate = work / cost
        if rate > best_rate or (rate == best_rate and work > best_work):
            best, best_rate, best_work, best_most = b, rate, work, most
    for i in range(min(front, buckets[best, 0])):
        counts[i] = min(counts[i], best_most)
    return best
