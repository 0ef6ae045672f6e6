"""A call's work in blocks, which threads take by turns.

An item is a tick of a session; a session's ticks follow each other. A block is some
items in a row. Whoever works takes the next block and carries it through all layers;
only a recurrence may have to wait for that of the block before, if both hold ticks of
one session. Blocks are taken in order, so what is waited for is in somebody's hands.

A job is one piece of memory that threads share, and the last to leave frees it:

    int64: next block | blocks finished | threads that know of it | room | sizes |
        a flag for each recurrence of each block | the call's addresses
    int32: each item's session | each item's tick
"""

from __future__ import annotations

from typing import Final, NamedTuple

from saccade.model.cpu_kernels.memory import (
    add_up,
    allocate,
    clear,
    free,
    let_others_run,
    long,
    put_long,
    put_whole,
    seen,
    whole,
)
from saccade.model.cpu_kernels.vectors import compiled

_NEXT: Final = 0
_FINISHED: Final = 1
_KNOWN: Final = 2
_ROOM: Final = 3
_SIZES: Final = 4
_HEADER: Final = 9

PATIENCE: Final = 200
"""How often a thread looks before it offers its core to others."""


class Work(NamedTuple):
    """A job's parts; all are int64.

    Attributes:
        job: Its address.
        items: How many.
        size: Items in a block; the last may hold fewer.
        blocks: How many.
        turns: Recurrences of a block.
        addresses: Address of the call's addresses.
        sessions: Address of the items' sessions.
        ticks: Address of the items' ticks, counted from the call's first.
    """

    job: int
    items: int
    size: int
    blocks: int
    turns: int
    addresses: int
    sessions: int
    ticks: int


@compiled
def moved(ticks: int, session: int, most: int) -> int:
    """Return how many ticks a session moves."""
    return min(max(whole(ticks, session), 0), most)


@compiled
def new_job(
    ticks: int,
    sessions: int,
    most: int,
    size: int,
    threads: int,
    turns: int,
    addresses: int,
) -> int:
    """Return a job that nobody has begun, or 0 without memory.

    Args:
        ticks: Address of how many ticks each session moves, int32.
        sessions: How many.
        most: No session moves more.
        size: Items in a block, if that leaves one for each thread.
        threads: That may take part.
        turns: Recurrences of a block.
        addresses: Room for so many.
    """
    items = 0
    for session in range(sessions):
        items += moved(ticks, session, most)
    size = max(min(size, (items + threads - 1) // threads), 1)
    blocks = (items + size - 1) // size
    head = 8 * (_HEADER + blocks * turns + addresses)
    job = allocate(head + 8 * items)
    if job != 0:
        clear(job, head)
        put_long(job, _KNOWN, 1)
        put_long(job, _SIZES, items)
        put_long(job, _SIZES + 1, size)
        put_long(job, _SIZES + 2, blocks)
        put_long(job, _SIZES + 3, turns)
        put_long(job, _SIZES + 4, addresses)
        item = 0
        work = work_of(job)
        for session in range(sessions):
            for tick in range(moved(ticks, session, most)):
                put_whole(work.sessions, item, session)
                put_whole(work.ticks, item, tick)
                item += 1
    return job


@compiled
def work_of(job: int) -> Work:
    """Return a job's parts."""
    items, size = long(job, _SIZES), long(job, _SIZES + 1)
    blocks, turns = long(job, _SIZES + 2), long(job, _SIZES + 3)
    addresses = job + 8 * (_HEADER + blocks * turns)
    sessions = addresses + 8 * long(job, _SIZES + 4)
    ticks = sessions + 4 * items
    return Work(job, items, size, blocks, turns, addresses, sessions, ticks)


@compiled
def need(work: Work, size: int) -> None:
    """Say how many bytes a thread needs to work in."""
    put_long(work.job, _ROOM, size)


@compiled
def needed(work: Work) -> int:
    """Return how many bytes a thread needs to work in."""
    return long(work.job, _ROOM)


@compiled
def take(work: Work) -> int:
    """Return a block that is now the caller's; past the last, none is left.

    Only who has one may touch the call: without, it may be over already.
    """
    return add_up(work.job, _NEXT, 1)


@compiled
def finish(work: Work) -> None:
    """Say that a block is done."""
    add_up(work.job, _FINISHED, 1)


@compiled
def give_up(work: Work) -> None:
    """Take all blocks that are left, and leave them undone."""
    while take(work) < work.blocks:
        finish(work)


@compiled
def wait_for_all(work: Work) -> None:
    """Wait until all blocks are done."""
    _wait(work.job, _FINISHED, work.blocks)


@compiled
def wait_for_turn(work: Work, block: int, turn: int) -> None:
    """Wait until the block before has run a recurrence, if this one goes on from it."""
    if whole(work.ticks, block * work.size) > 0:
        _wait(work.job, _HEADER + (block - 1) * work.turns + turn, 1)


@compiled
def _wait(job: int, index: int, least: int) -> None:
    """Wait until a number that other threads add to is as large."""
    looked = 0
    while seen(job, index) < least:
        looked += 1
        if looked > PATIENCE:
            let_others_run()


@compiled
def end_turn(work: Work, block: int, turn: int) -> None:
    """Say that a block has run a recurrence."""
    add_up(work.job, _HEADER + block * work.turns + turn, 1)


@compiled
def tell(job: int) -> None:
    """Count a thread that is told of a job, before it is."""
    add_up(job, _KNOWN, 1)


@compiled
def leave(job: int) -> None:
    """Forget a job; the last to do so frees it."""
    if add_up(job, _KNOWN, -1) == 1:
        free(job)
