"""What XLA calls: it makes a job of a call, in which XLA's threads may take part."""

from __future__ import annotations

import ctypes
import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from threading import Lock
from typing import Any, Final

import jax
import numba
from llvmlite import ir
from numba import types
from numba.core import event

from saccade.model.cpu_kernels import foreign
from saccade.model.cpu_kernels.call import (
    LAYERS,
    MOVED,
    PLAN,
    STATES,
    TICKS,
    Call,
    arguments,
    call_of,
    layer_of,
    results,
)
from saccade.model.cpu_kernels.layers import bytes_of, run_block, scratch_of, sizes_of
from saccade.model.cpu_kernels.memory import (
    allocate,
    copy,
    free,
    long,
    put_long,
    room,
    whole,
)
from saccade.model.cpu_kernels.readout import repeat_last
from saccade.model.cpu_kernels.vectors import LONG, compiled, instruction, merged
from saccade.model.cpu_kernels.work import (
    finish,
    give_up,
    leave,
    moved,
    need,
    needed,
    new_job,
    take,
    tell,
    wait_for_all,
    work_of,
)

ROWS_AT_ONCE: Final = 64
"""Rows after the first pooling that a block holds at most, if a tick has no more."""


@merged
def handle(frame: int) -> int:
    """Answer a call of XLA's; return 0, or the address of an error."""
    if foreign.answer_metadata(frame):
        return 0
    request = room()
    threads = foreign.count_threads(frame, request)
    job = _job_of(frame, threads)
    if job == 0:
        return foreign.no_memory(frame, request)
    work = work_of(job)
    for _ in range(min(threads, work.blocks) - 1):
        tell(job)
        if not foreign.schedule(frame, request, _task(help_out), job):
            leave(job)
    done = _work_on(job)
    if not done:
        give_up(work)
    # The arrays are ours only until we return.
    wait_for_all(work)
    if done:
        _repeat_last(call_of(work.addresses))
    leave(job)
    return 0 if done else foreign.no_memory(frame, request)


@merged
def _job_of(frame: int, threads: int) -> int:
    """Return the job that a call is, or 0 without memory."""
    plan = foreign.argument(frame, PLAN)
    events, layers, tick = whole(plan, 1), whole(plan, 2), whole(plan, 3)
    size = max(ROWS_AT_ONCE * whole(plan, LAYERS) // tick, 1)
    ticks = foreign.argument(frame, TICKS)
    addresses = arguments(layers) + results(layers)
    sessions, most = whole(plan, 0), events // tick
    job = new_job(ticks, sessions, most, size, threads, layers + 1, addresses)
    if job != 0:
        work = work_of(job)
        _hand_over(frame, work.addresses, layers)
        sizes = sizes_of(call_of(work.addresses), work.size * tick)
        need(work, bytes_of(sizes))
    return job


@compiled
def _hand_over(frame: int, addresses: int, layers: int) -> None:
    """Write down where a call's arrays are, and the states where they will move."""
    count = arguments(layers)
    for i in range(count):
        put_long(addresses, i, foreign.argument(frame, i))
    for i in range(results(layers)):
        put_long(addresses, count + i, foreign.result(frame, i))
    for i in range(layers + MOVED):
        source = foreign.argument(frame, STATES + i)
        target = foreign.result(frame, i)
        if source != target:
            element = 8 if i < layers else 4
            copy(target, source, foreign.argument_bytes(frame, STATES + i, element))


@merged
def _work_on(job: int) -> bool:
    """Work until no block is left to take; return False without memory."""
    work = work_of(job)
    memory = allocate(needed(work))
    if memory == 0:
        return False
    block = take(work)
    if block < work.blocks:
        call = call_of(work.addresses)
        sizes = sizes_of(call, work.size * call.tick)
        scratch = scratch_of(sizes, memory)
        while block < work.blocks:
            run_block(call, work, scratch, block)
            finish(work)
            block = take(work)
    free(memory)
    return True


@merged
def _repeat_last(call: Call) -> None:
    ticks, most = long(call.arguments, TICKS), call.events // call.tick
    width = layer_of(call, call.layers - 1).real_outputs
    for session in range(call.sessions):
        repeat_last(call, session, moved(ticks, session, most), width)


@compiled
def help_out(job: int) -> None:
    """Take part in a job; it may be done already."""
    _work_on(job)
    leave(job)


@instruction
def _task(typing: Any, function: Any) -> Any:
    """Return the address of a C function that calls a compiled one of one address."""

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


# >>> merged from model.native.registered
# >>> """The machine code as XLA knows it: compiled once, kept on disk, found by name."""

_COMPILING: Final = Lock()


def target() -> str:
    """Return the name by which XLA calls `handler.handle`, compiled if it is not yet.

    Programs that XLA keeps on disk hold the name, so it changes with the sources.
    """
    with _COMPILING:
        return _register()


class _Steps(event.Listener):  # type: ignore[misc]
    """Tells of each function that numba begins to compile."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress

    def on_start(self, event: Any) -> None:
        self._progress()

    def on_end(self, event: Any) -> None:
        pass


def prepare(progress: Callable[[], None]) -> None:
    """Compile what is not yet, or read what was kept.

    Args:
        progress: Is called some eighty times in 12 s; what it raises ends it.
    """
    with event.install_listener("numba:compile", _Steps(progress)):
        target()


@cache
def _register() -> str:
    version = _version()
    name = f"saccade_advance_{version:014x}"
    try:
        function = _c_function(version, keep=True)
    except (RuntimeError, OSError, EOFError, ValueError, UnpicklingError):
        # Nothing can be kept, or what was kept is damaged.
        _forget()
        function = _c_function(version, keep=False)
    pointer = ctypes.cast(function.address, ctypes.c_void_p)
    capsule = jax.ffi.pycapsule(pointer)  # type: ignore[no-untyped-call]
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return name


def _c_function(version: int, *, keep: bool) -> Any:
    def respond(frame: int) -> int:
        # What is kept is found by the code and constants of this function alone, not
        # of those that it calls: hence a version that is never 0.
        return handle(frame) if version else 0

    compile_to_c = numba.cfunc(types.int64(types.int64), cache=keep)
    return compile_to_c(inspect.unwrap(respond))


def _forget() -> None:
    """Remove what is kept, for the next process to keep it anew."""
    here = Path(__file__)
    folder = Path(numba.config.CACHE_DIR or here.parent / "__pycache__")
    for path in folder.rglob(f"{here.stem}.*.nb?"):
        path.unlink(missing_ok=True)


def _version() -> int:
    """Return a number that changes with what is compiled, constants included."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted([*here.parent.glob("*.py"), *here.glob("*.py")]):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "little") | 1
