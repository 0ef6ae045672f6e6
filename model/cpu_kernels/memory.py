"""Memory access by address, allocation, and atomic operations; nothing is checked.

An index counts numbers of the type that is read or written.
"""

from __future__ import annotations

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
def load_acquire(typing: Any, address: Any, index: Any) -> Any:
    """Read an int64 that another thread writes, with acquire ordering."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_i64_pointer(builder, *args), "acquire", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def fetch_add(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Add to an int64 that threads share; return its value before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        where = _i64_pointer(builder, address, index)
        return builder.atomic_rmw("add", where, value, "acq_rel")

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
def yield_thread(typing: Any) -> Any:
    """Let the operating system run another thread on this core."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, "sched_yield", INT, [])
        return context.get_dummy_value()

    return types.void(), generate


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
