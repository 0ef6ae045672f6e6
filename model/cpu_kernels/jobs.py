"""A call's job: the ticks to run, in blocks that threads take one after the other.

An item is one tick of one session; a session's ticks follow each other. A block is some
items in a row. A thread takes the next block and runs it through all layers
(`held_blocks`). Before a layer's recurrence, and before the readout, a block waits for
the block before, if both hold ticks of one session. Blocks are taken in order, so the
block before is done or in the hands of a thread.

A job is one piece of memory that threads share and that the last thread frees:

    int64: next block | finished blocks | references | scratch bytes |
        sleeping threads | sizes | taken cores (see `cores`) |
        a flag for each stage of each block | the call's addresses
    int32: each item's session | each item's tick

A stage of a block is a layer's recurrence, or the readout.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from saccade.model.cpu_kernels.cores import SET_INTS
from saccade.model.cpu_kernels.memory import (
    allocate,
    fetch_add,
    free,
    load_i32,
    load_i64,
    load_shared,
    pause,
    sleep_while,
    store_i32,
    store_i64,
    wake,
    zero,
)
from saccade.model.cpu_kernels.vectors import compiled

_NEXT: Final = 0
_FINISHED: Final = 1
_REFERENCES: Final = 2
_SCRATCH_BYTES: Final = 3
_SLEEPING: Final = 4
_SIZES: Final = 5
_CORES: Final = 10
_HEADER: Final = _CORES + SET_INTS

SPINS: Final = 300
"""Reads of a flag before a waiting thread does something else or sleeps, about ten
microseconds. A thread that waited awake would take its core from others, and its share
of the time that a container may use."""


class Job(NamedTuple):
    """A job's sizes and addresses; all are int64.

    Attributes:
        address: Of the job.
        items: Number of items.
        size: Items in a block; the last block may hold fewer.
        blocks: Number of blocks.
        stages: Stages of a block.
        addresses: Address of the call's addresses.
        sessions: Address of the items' sessions.
        ticks: Address of the items' ticks, counted from the call's first.
    """

    address: int
    items: int
    size: int
    blocks: int
    stages: int
    addresses: int
    sessions: int
    ticks: int


@compiled
def ticks_of(ticks: int, session: int, most: int) -> int:
    """Return how many ticks a session moves, cut to the ticks there are."""
    return min(max(load_i32(ticks, session), 0), most)


@compiled
def new_job(
    ticks: int,
    sessions: int,
    most: int,
    size: int,
    threads: int,
    stages: int,
    addresses: int,
) -> int:
    """Return the address of a new job with one reference, or 0 without memory.

    Args:
        ticks: Address of each session's number of ticks, int32.
        sessions: Number of sessions.
        most: Ticks that a session has.
        size: Items in a block; fewer where some thread would get no block.
        threads: Threads that may take part.
        stages: Stages of a block.
        addresses: Number of the call's addresses.
    """
    items = 0
    for session in range(sessions):
        items += ticks_of(ticks, session, most)
    size = max(min(size, (items + threads - 1) // threads), 1)
    blocks = (items + size - 1) // size
    head = 8 * (_HEADER + blocks * stages + addresses)
    address = allocate(head + 8 * items)
    if address != 0:
        zero(address, head)
        store_i64(address, _REFERENCES, 1)
        store_i64(address, _SIZES, items)
        store_i64(address, _SIZES + 1, size)
        store_i64(address, _SIZES + 2, blocks)
        store_i64(address, _SIZES + 3, stages)
        store_i64(address, _SIZES + 4, addresses)
        _store_items(job_at(address), ticks, sessions, most)
    return address


@compiled
def _store_items(job: Job, ticks: int, sessions: int, most: int) -> None:
    """Store the session and the tick of each item."""
    item = 0
    for session in range(sessions):
        for tick in range(ticks_of(ticks, session, most)):
            store_i32(job.sessions, item, session)
            store_i32(job.ticks, item, tick)
            item += 1


@compiled
def job_at(address: int) -> Job:
    """Return the job at an address."""
    items, size = load_i64(address, _SIZES), load_i64(address, _SIZES + 1)
    blocks, stages = load_i64(address, _SIZES + 2), load_i64(address, _SIZES + 3)
    addresses = address + 8 * (_HEADER + blocks * stages)
    sessions = addresses + 8 * load_i64(address, _SIZES + 4)
    ticks = sessions + 4 * items
    return Job(address, items, size, blocks, stages, addresses, sessions, ticks)


@compiled
def set_scratch_bytes(job: Job, size: int) -> None:
    """Store the size of a thread's scratch memory."""
    store_i64(job.address, _SCRATCH_BYTES, size)


@compiled
def scratch_bytes(job: Job) -> int:
    """Return the size of a thread's scratch memory."""
    return load_i64(job.address, _SCRATCH_BYTES)


@compiled
def take_block(job: Job) -> int:
    """Return the next block, now the caller's, or a number past the last block.

    Only the holder of an unfinished block may touch the call's arrays: without one, the
    call may have returned.
    """
    return fetch_add(job.address, _NEXT, 1)


@compiled
def taken_cores(job: Job) -> int:
    """Return the address of the set of cores that threads of the call have taken."""
    return job.address + 8 * _CORES


@compiled
def finish_block(job: Job) -> None:
    """Count a block as finished."""
    _raise(job.address, _FINISHED)


@compiled
def abandon(job: Job) -> None:
    """Take all blocks that are left and finish them without running them."""
    while take_block(job) < job.blocks:
        finish_block(job)


@compiled
def wait_for_all(job: Job) -> None:
    """Wait until all blocks are finished."""
    for _ in range(SPINS):
        if load_shared(job.address, _FINISHED) >= job.blocks:
            return
        pause()
    while load_shared(job.address, _FINISHED) < job.blocks:
        _sleep(job.address, _FINISHED, job.blocks)


@compiled
def may_run(job: Job, block: int, stage: int) -> bool:
    """Return whether the block before has run a stage, or holds another session."""
    if load_i32(job.ticks, block * job.size) == 0:
        return True
    return load_shared(job.address, _flag(job, block - 1, stage)) > 0


@compiled
def sleep_before(job: Job, block: int, stage: int) -> None:
    """Sleep until the block before has run a stage, at most a millisecond."""
    _sleep(job.address, _flag(job, block - 1, stage), 1)


@compiled
def finish_stage(job: Job, block: int, stage: int) -> None:
    """Set the flag that a block has run a stage."""
    _raise(job.address, _flag(job, block, stage))


@compiled
def _flag(job: Job, block: int, stage: int) -> int:
    """Return the place of the flag that a block has run a stage."""
    return _HEADER + block * job.stages + stage


@compiled
def _sleep(address: int, index: int, least: int) -> None:
    """Sleep while a number is below `least`, at most a millisecond."""
    fetch_add(address, _SLEEPING, 1)
    seen = load_shared(address, index)
    if seen < least:
        sleep_while(address, index, seen)
    fetch_add(address, _SLEEPING, -1)


@compiled
def _raise(address: int, index: int) -> None:
    """Add 1 to a number for which other threads may wait.

    Either this thread sees that one sleeps, or that one sees the new number.
    """
    fetch_add(address, index, 1)
    if load_shared(address, _SLEEPING) > 0:
        wake(address, index)


@compiled
def retain(address: int) -> None:
    """Add a reference to a job, before another thread gets its address."""
    fetch_add(address, _REFERENCES, 1)


@compiled
def release(address: int) -> None:
    """Drop a reference to a job; the last one frees its memory."""
    if fetch_add(address, _REFERENCES, -1) == 1:
        free(address)
