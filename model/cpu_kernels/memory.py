"""Numbers in memory by address, and what threads share: nothing here is checked."""

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
    instruction,
    pointer,
)

_BYTE: Final = ir.IntType(8)
_PLACE: Final = ir.PointerType(_BYTE)


@instruction
def number(typing: Any, address: Any, index: Any) -> Any:
    """Read a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer(builder, args[0], args[1], FLOAT), align=4)

    return types.float32(types.int64, types.int64), generate


@instruction
def put(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        builder.store(value, pointer(builder, address, index, FLOAT), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), generate


@instruction
def whole(typing: Any, address: Any, index: Any) -> Any:
    """Read an int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        read = builder.load(pointer(builder, args[0], args[1], INT), align=4)
        return builder.sext(read, LONG)

    return types.int64(types.int64, types.int64), generate


@instruction
def put_whole(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write an int32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        value = builder.trunc(value, INT)
        builder.store(value, pointer(builder, address, index, INT), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _long(builder: Any, address: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, LONG.as_pointer()), [index])


@instruction
def long(typing: Any, address: Any, index: Any) -> Any:
    """Read an int64, or an address; the index counts eight bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_long(builder, *args), align=8)

    return types.int64(types.int64, types.int64), generate


@instruction
def put_long(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write an int64; likewise."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        builder.store(value, _long(builder, address, index), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@instruction
def seen(typing: Any, address: Any, index: Any) -> Any:
    """Read an int64 that another thread writes, and all that it wrote before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_long(builder, *args), "acquire", 8)

    return types.int64(types.int64, types.int64), generate


@instruction
def add_up(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Add to an int64 that threads share; return what it was before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        where = _long(builder, address, index)
        return builder.atomic_rmw("add", where, value, "acq_rel")

    return types.int64(types.int64, types.int64, types.int64), generate


@instruction
def room(typing: Any) -> Any:
    """Return the address of 64 bytes that last until the function returns."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = cgutils.alloca_once(builder, ir.ArrayType(LONG, 8))
        return builder.ptrtoint(place, LONG)

    return types.int64(), generate


@instruction
def allocate(typing: Any, size: Any) -> Any:
    """Return the address of so many bytes, or 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = call(builder, "malloc", _PLACE, list(args))
        return builder.ptrtoint(place, LONG)

    return types.int64(types.int64), generate


@instruction
def free(typing: Any, address: Any) -> Any:
    """Give back what `allocate` returned."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, "free", ir.VoidType(), [builder.inttoptr(args[0], _PLACE)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@instruction
def let_others_run(typing: Any) -> Any:
    """Offer the core to other threads."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call(builder, "sched_yield", INT, [])
        return context.get_dummy_value()

    return types.void(), generate


@instruction
def copy(typing: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy so many bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source, size = args
        places = [builder.inttoptr(place, _PLACE) for place in (target, source)]
        cgutils.raw_memcpy(builder, *places, size, 1, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@instruction
def clear(typing: Any, address: Any, size: Any) -> Any:
    """Set so many bytes to zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, size = args
        cgutils.memset(builder, builder.inttoptr(address, _PLACE), size, 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
