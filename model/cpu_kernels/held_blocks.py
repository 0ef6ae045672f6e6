"""A thread's part in a job: the blocks that it holds, and which of them goes on.

A thread that is put off its core in the middle of a block holds up the block after it,
and so on: with two threads, the other core would do nothing meanwhile. So a thread
whose block waits begins another one, of which the stages up to that wait are free.

A held block is one piece of memory: int64 block | next stage | rows, then its scratch
memory. Where none is held, the block is past the last one.
"""

from __future__ import annotations

from typing import Final

from saccade.model.cpu_kernels.call import Call, call_of
from saccade.model.cpu_kernels.cores import leave_core, take_core
from saccade.model.cpu_kernels.jobs import (
    SPINS,
    Job,
    finish_block,
    job_at,
    may_run,
    scratch_bytes,
    sleep_before,
    take_block,
    taken_cores,
)
from saccade.model.cpu_kernels.layers import Sizes, run_stage, scratch_of, sizes_of
from saccade.model.cpu_kernels.memory import (
    allocate,
    free,
    load_i32,
    load_i64,
    pause,
    stack_buffer,
    store_i64,
)
from saccade.model.cpu_kernels.vectors import compiled, merged

MOST_HELD: Final = 3
"""Blocks that a thread holds at most: enough to be busy while another thread is put off
its core for as long as an event loop takes its turn."""

LONG_CHAIN: Final = 8
"""Blocks of a call, each waiting for the one before, from which on a thread keeps to a
core of its own. A short call is over before the system moves its threads together, and
one whose blocks wait for none loses nothing by it."""

_BLOCK: Final = 0
_STAGE: Final = 1
_ROWS: Final = 2
_HEAD_BYTES: Final = 64


@merged
def run_blocks(address: int) -> bool:
    """Run blocks until none is left to take; return False without memory."""
    job = job_at(address)
    places = stack_buffer()
    for place in range(MOST_HELD):
        store_i64(places, place, 0)
    first = _free_place(job, places)
    if first == 0:
        return False
    block = take_block(job)
    if block < job.blocks:
        store_i64(first, _BLOCK, block)
        allowed = stack_buffer()
        core = take_core(taken_cores(job), allowed) if _is_long_chain(job) else -1
        _run_held(call_of(job.addresses), job, places)
        leave_core(core, allowed)
    for place in range(MOST_HELD):
        free(load_i64(places, place))
    return True


@compiled
def _is_long_chain(job: Job) -> bool:
    """Return whether the last block waits for the one before, and many are before."""
    last = job.blocks - 1
    return job.blocks >= LONG_CHAIN and load_i32(job.ticks, last * job.size) > 0


@compiled
def _free_place(job: Job, places: int) -> int:
    """Return memory for another block, or 0."""
    for place in range(MOST_HELD):
        held = load_i64(places, place)
        if held == 0:
            held = allocate(_HEAD_BYTES + scratch_bytes(job))
            if held == 0:
                return 0
            store_i64(places, place, held)
            store_i64(held, _BLOCK, job.blocks)
            store_i64(held, _STAGE, -1)
        if load_i64(held, _BLOCK) >= job.blocks:
            return held
    return 0


@compiled
def _run_held(call: Call, job: Job, places: int) -> None:
    """Run the block that is held, and others, until none is left to take."""
    sizes = sizes_of(call, job.size * call.plan.tick)
    spins = 0
    count = 1
    while count > 0:
        held = _first_to_run(job, places)
        if held != 0:
            spins = 0
            count -= _go_on(call, job, sizes, held)
        elif spins < SPINS:
            spins += 1
            pause()
            continue
        if held == 0 or count == 0:
            taken = _take_another(job, places)
            count += taken
            if taken == 0 and count > 0:
                _sleep(job, places)


@compiled
def _take_another(job: Job, places: int) -> int:
    """Take another block, if one is left and there is memory; return how many."""
    held = _free_place(job, places)
    if held == 0:
        return 0
    block = take_block(job)
    if block >= job.blocks:
        return 0
    store_i64(held, _BLOCK, block)
    return 1


@compiled
def _go_on(call: Call, job: Job, sizes: Sizes, held: int) -> int:
    """Run a held block's next stage; return 1 if that was its last."""
    block, stage = load_i64(held, _BLOCK), load_i64(held, _STAGE)
    scratch = scratch_of(sizes, held + _HEAD_BYTES)
    rows = run_stage(call, job, scratch, block, stage, load_i64(held, _ROWS))
    store_i64(held, _ROWS, rows)
    if stage < call.plan.layers:
        store_i64(held, _STAGE, stage + 1)
        return 0
    store_i64(held, _STAGE, -1)
    store_i64(held, _BLOCK, job.blocks)
    finish_block(job)
    return 1


@compiled
def _first_to_run(job: Job, places: int) -> int:
    """Return the first of the held blocks that may run its next stage, or 0."""
    found = 0
    first = job.blocks
    for place in range(MOST_HELD):
        held = load_i64(places, place)
        if held != 0:
            block, stage = load_i64(held, _BLOCK), load_i64(held, _STAGE)
            if block < first and (stage < 0 or may_run(job, block, stage)):
                found, first = held, block
    return found


@compiled
def _sleep(job: Job, places: int) -> None:
    """Sleep until the first of the held blocks may run, at most a millisecond.

    No two threads wait for each other: the first unfinished block waits for none.
    """
    held = load_i64(places, 0)
    for place in range(1, MOST_HELD):
        other = load_i64(places, place)
        if other != 0 and load_i64(other, _BLOCK) < load_i64(held, _BLOCK):
            held = other
    sleep_before(job, load_i64(held, _BLOCK), load_i64(held, _STAGE))
