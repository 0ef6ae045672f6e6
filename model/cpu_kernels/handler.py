"""The foreign function that XLA calls, and its registration.

`handle` turns a call into a job and runs it on XLA's threads; for a call that does not
come from XLA (`in_place`), on the caller's alone. `target` compiles `handle`, keeps the
machine code on disk for the next process, and registers it.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final

import jax
import numba
from llvmlite import ir
from numba import types
from numba.core import event

from saccade.model.cpu_kernels import foreign
from saccade.model.cpu_kernels.call import (
    ARGUMENTS,
    MOVED_POOL,
    PLAN,
    PLAN_BYTES,
    POOL,
    RESULTS,
    TICKS,
    Call,
    call_of,
    layer_of,
    read_layer,
    read_plan,
)
from saccade.model.cpu_kernels.held_blocks import run_blocks
from saccade.model.cpu_kernels.jobs import (
    Job,
    abandon,
    job_at,
    new_job,
    release,
    retain,
    set_scratch_bytes,
    ticks_of,
    wait_for_all,
)
from saccade.model.cpu_kernels.layers import bytes_of, sizes_of
from saccade.model.cpu_kernels.memory import (
    copy,
    load_i64,
    stack_buffer,
    store_i64,
)
from saccade.model.cpu_kernels.readout import repeat_last
from saccade.model.cpu_kernels.vectors import LONG, compiled, intrinsic, merged
from saccade.model.cpu_kernels.version import sources_version
from saccade.model.kept_code import UNUSABLE, remove_kept

STEPS: Final = 100
"""About how many functions are compiled."""

IN_PLACE: Final = 0
"""Stands where XLA's frames have their size: a call's addresses follow. One function
for both is compiled once."""

_COMPILING: Final = Lock()


@merged
def handle(frame: int) -> int:
    """Run a call; return 0, or the address of an error: not 0 for one in place."""
    if load_i64(frame, 0) == IN_PLACE:
        return _run_in_place(frame + 8)
    if foreign.write_metadata(frame):
        return 0
    request = stack_buffer()
    threads = min(foreign.count_threads(frame, request), _threads_worth(frame))
    plan, ticks = foreign.argument(frame, PLAN), foreign.argument(frame, TICKS)
    address = _new_job(plan, ticks, threads)
    if address == 0:
        return foreign.no_memory(frame, request)
    job = job_at(address)
    _store_addresses(frame, job.addresses)
    _set_scratch(job)
    for _ in range(min(threads, job.blocks) - 1):
        retain(address)
        if not foreign.schedule(frame, request, _task(run_worker), address):
            release(address)
    done = run_blocks(address)
    if not done:
        abandon(job)
    # XLA may reuse the call's arrays as soon as this function returns.
    wait_for_all(job)
    if done:
        _repeat_last(call_of(job.addresses))
    release(address)
    return 0 if done else foreign.no_memory(frame, request)


@compiled
def _threads_worth(frame: int) -> int:
    """Return how many threads a call's work is worth, at least one."""
    plan = read_plan(foreign.argument(frame, PLAN), 0)
    ticks, most = foreign.argument(frame, TICKS), plan.events // plan.tick
    work = 0
    for session in range(plan.sessions):
        work += ticks_of(ticks, session, most)
    return max(work // plan.thread_ticks, 1)


@compiled
def _run_in_place(addresses: int) -> int:
    """Run a call on this thread; return 0, or 1 without memory."""
    address = _new_job(load_i64(addresses, PLAN), load_i64(addresses, TICKS), 1)
    if address == 0:
        return 1
    job = job_at(address)
    copy(job.addresses, addresses, 8 * (ARGUMENTS + RESULTS))
    _set_scratch(job)
    done = run_blocks(address)
    if done:
        _repeat_last(call_of(job.addresses))
    release(address)
    return 0 if done else 1


@compiled
def _new_job(begin: int, ticks: int, threads: int) -> int:
    """Return the address of a new job for the call of a plan, or 0 without memory.

    Its addresses are to be stored, and then `_set_scratch` is to be called.
    """
    plan = read_plan(begin, 0)
    layers, tick = plan.layers, plan.tick
    size = max(plan.block_rows * read_layer(begin + PLAN_BYTES, 0).stride // tick, 1)
    addresses = ARGUMENTS + RESULTS
    most = plan.events // tick
    return new_job(ticks, plan.sessions, most, size, threads, layers + 1, addresses)


@compiled
def _set_scratch(job: Job) -> None:
    """Store how much scratch memory a job's call takes."""
    call = call_of(job.addresses)
    sizes = sizes_of(call, job.size * call.plan.tick)
    set_scratch_bytes(job, bytes_of(sizes))


@compiled
def _store_addresses(frame: int, addresses: int) -> None:
    """Store a call's addresses in its job; copy a pool that is not in place."""
    for i in range(ARGUMENTS):
        store_i64(addresses, i, foreign.argument(frame, i))
    for i in range(RESULTS):
        store_i64(addresses, ARGUMENTS + i, foreign.result(frame, i))
    source = foreign.argument(frame, POOL)
    target = foreign.result(frame, MOVED_POOL)
    if source != target:
        copy(target, source, foreign.argument_bytes(frame, POOL, 4))


@compiled
def _repeat_last(call: Call) -> None:
    ticks = load_i64(call.arguments, TICKS)
    most = call.plan.events // call.plan.tick
    width = layer_of(call, call.plan.layers - 1).real_outputs
    for session in range(call.plan.sessions):
        repeat_last(call, session, ticks_of(ticks, session, most), width)


@compiled
def run_worker(address: int) -> None:
    """Run blocks of a job on one of XLA's threads; the job may be finished already."""
    run_blocks(address)
    release(address)


@intrinsic
def _task(typing: Any, function: Any) -> Any:
    """Return the address of a C function that calls `function` with one address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        called = signature.args[0].dispatcher
        compilation = called.get_compile_result(inner)
        context.active_code_library.add_linking_library(compilation.library)
        name = f"{builder.function.name}.task"
        task = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [LONG]), name)
        task.linkage = "internal"
        within = ir.IRBuilder(task.append_basic_block())
        context.call_internal_no_propagate(
            within, compilation.fndesc, inner, [task.args[0]]
        )
        within.ret_void()
        return builder.ptrtoint(task, LONG)

    inner = types.none(types.int64)
    function.get_call_type(typing, (types.int64,), {})  # compiles it
    return types.int64(function), generate


def target() -> str:
    """Compile and register `handle` once; return its name with XLA.

    Programs that XLA keeps on disk hold the name, so it changes with the sources.
    """
    with _COMPILING:
        return _register()


def entry() -> int:
    """Compile `handle` once; return its address, for calls in place."""
    with _COMPILING:
        return int(_function().address)


class _Steps(event.Listener):  # type: ignore[misc]
    """Calls a function whenever numba begins to compile one."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress

    def on_start(self, event: Any) -> None:
        self._progress()

    def on_end(self, event: Any) -> None:
        pass


def prepare(progress: Callable[[], None]) -> None:
    """Compile the kernels, or read them from disk.

    Args:
        progress: Called about `STEPS` times; its exceptions end the compilation.
    """
    with event.install_listener("numba:compile", _Steps(progress)):
        target()


@cache
def _register() -> str:
    name = f"saccade_advance_{sources_version():014x}"
    pointer = ctypes.cast(_function().address, ctypes.c_void_p)
    capsule = jax.ffi.pycapsule(pointer)  # type: ignore[no-untyped-call]
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return name


@cache
def _function() -> Any:
    version = sources_version()
    try:
        return c_function(version, keep=True)
    except UNUSABLE:
        remove_kept(Path(__file__))
        return c_function(version, keep=False)


def c_function(version: int, *, keep: bool) -> Any:
    """Return `handle`, compiled as numba's C function.

    Args:
        version: Of the sources, not 0.
        keep: Whether the machine code is kept on disk.
    """

    def respond(frame: int) -> int:
        # numba finds kept code by the code and constants of this function alone, not
        # of the functions that it calls: hence a version, which is never 0.
        return handle(frame) if version else 0

    compile_to_c = numba.cfunc(types.int64(types.int64), cache=keep)
    return compile_to_c(inspect.unwrap(respond))
