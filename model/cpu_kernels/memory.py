"""Memory access by address, allocation, and atomic operations; nothing is checked.

An index counts numbers of the type that is read or written.
"""

from __future__ import annotations

import platform
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils

from saccade.model.cpu_kernels.vectors import (
    FLOAT,
    INT,
    LONG,
    call,
    intrinsic,
    pointer,
)

PROCESSOR: Final = f"{platform.system()} {platform.machine()}"
_PAUSES: Final[dict[str, tuple[Any, ...]]] = {
    "Linux x86_64": ("llvm.x86.sse2.pause",),
    "Linux aarch64": ("llvm.aarch64.hint", 1),
}
_FUTEX: Final = {"Linux x86_64": 202, "Linux aarch64": 98}
"""Numbers of the system call; elsewhere a thread sleeps for `_MOST_NS`."""

_WAIT: Final = 128  # FUTEX_WAIT | FUTEX_PRIVATE_FLAG
_WAKE: Final = 129
_MOST_NS: Final = 1_000_000 if PROCESSOR in _FUTEX else 50_000
_BYTE: Final = ir.IntType(8)
_PLACE: Final = ir.PointerType(_BYTE)


@intrinsic
def load_f32(typing: Any, address: Any, index: Any) -> Any:
    """Read a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer(builder, args[0], args[1], FLOAT), align=4)

    return types.float32(types.int64, types.int64), generate


@intrinsic
def store_f32(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        builder.store(value, pointer(builder, address, index, FLOAT), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@intrinsic
def load_i32(typing: Any, address: Any, index: Any) -> Any:
    """Read an int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read = builder.load(pointer(builder, args[0], args[1], INT), align=4)
        return builder.sext(read, LONG)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def store_i32(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write an int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        value = builder.trunc(value, INT)
        builder.store(value, pointer(builder, address, index, INT), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _i64_pointer(builder: Any, address: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, LONG.as_pointer()), [index])


@intrinsic
def load_i64(typing: Any, address: Any, index: Any) -> Any:
    """Read an int64, or an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_i64_pointer(builder, *args), align=8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def store_i64(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write an int64, or an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        builder.store(value, _i64_pointer(builder, address, index), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def load_shared(typing: Any, address: Any, index: Any) -> Any:
    """Read an int64 that another thread writes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_i64_pointer(builder, *args), "seq_cst", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def fetch_add(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Add to an int64 that threads share; return its value before."""
    return _fetch_and("add")


@intrinsic
def fetch_or(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Set bits of an int64 that threads share; return its value before."""
    return _fetch_and("or")


def _fetch_and(operation: str) -> Any:
    """Return an intrinsic's type, and what generates LLVM's atomic operation."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        where = _i64_pointer(builder, address, index)
        return builder.atomic_rmw(operation, where, value, "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), generate


@intrinsic
def stack_buffer(typing: Any) -> Any:
    """Return the address of 64 bytes on the stack, valid until the function returns."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = cgutils.alloca_once(builder, ir.ArrayType(LONG, 8))
        return builder.ptrtoint(place, LONG)

    return types.int64(), generate


@intrinsic
def allocate(typing: Any, size: Any) -> Any:
    """Return the address of `size` new bytes, or 0 if there is no memory."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = call(builder, "malloc", _PLACE, list(args))
        return builder.ptrtoint(place, LONG)

    return types.int64(types.int64), generate


@intrinsic
def free(typing: Any, address: Any) -> Any:
    """Free the memory that `allocate` returned."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, "free", ir.VoidType(), [builder.inttoptr(args[0], _PLACE)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Leave the core's units to its other thread, if it has one, for an instant."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        name, *hints = _PAUSES.get(PROCESSOR, ("llvm.donothing",))
        call(builder, name, ir.VoidType(), [ir.Constant(INT, hint) for hint in hints])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def system_call(typing: Any, number: Any, first: Any, second: Any, third: Any) -> Any:
    """Call Linux with three arguments; return less than 0 if it refuses."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return call(builder, "syscall", LONG, [*args])

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def sleep_while(typing: Any, address: Any, index: Any, seen: Any) -> Any:
    """Sleep until `wake`, if a shared int64 is still `seen`; at most a millisecond.

    Only the low half is compared. The core is free for other threads meanwhile.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, seen = args
        kind = ir.ArrayType(LONG, 2)  # struct timespec
        most = cgutils.alloca_once_value(builder, ir.Constant(kind, [0, _MOST_NS]))
        if PROCESSOR in _FUTEX:
            word = builder.ptrtoint(_i64_pointer(builder, address, index), LONG)
            _futex(builder, word, _WAIT, [seen, builder.ptrtoint(most, LONG)])
        else:
            nothing = ir.Constant(most.type, None)
            call(builder, "nanosleep", INT, [most, nothing])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def wake(typing: Any, address: Any, index: Any) -> Any:
    """Wake all threads that sleep on a shared int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if PROCESSOR in _FUTEX:
            word = builder.ptrtoint(_i64_pointer(builder, *args), LONG)
            nothing = ir.Constant(LONG, 0)
            _futex(builder, word, _WAKE, [ir.Constant(LONG, 2**31 - 1), nothing])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _futex(builder: Any, word: Any, operation: int, rest: list[Any]) -> None:
    """Call the kernel of Linux; see futex(2)."""
    numbers = [ir.Constant(LONG, number) for number in (_FUTEX[PROCESSOR], operation)]
    call(builder, "syscall", LONG, [numbers[0], word, numbers[1], *rest])


@intrinsic
def copy(typing: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy `size` bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source, size = args
        places = [builder.inttoptr(place, _PLACE) for place in (target, source)]
        cgutils.raw_memcpy(builder, *places, size, 1, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def zero(typing: Any, address: Any, size: Any) -> Any:
    """Set `size` bytes to zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, size = args
        cgutils.memset(builder, builder.inttoptr(address, _PLACE), size, 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
