"""XLA's C interface for foreign functions: call frames, threads and errors.

The layout of `XLA_FFI_CallFrame` and of the structures it points to is that of jaxlib's
`xla/ffi/api/c_api.h`, major version 0, which is stable. Indices count eight bytes.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types

from saccade.model.cpu_kernels.memory import load_i32, load_i64, store_i32, store_i64
from saccade.model.cpu_kernels.vectors import LONG, compiled, intrinsic

VERSION: Final = (0, 3)
"""Of the interface: major, minor."""

# Positions in a frame.
_EXTENSION: Final = 1
_API: Final = 2
_CONTEXT: Final = 3
_ARGUMENTS: Final = 5
_RESULTS: Final = 10
_BUFFERS: Final = 4  # in the arguments, or results
# Positions in a buffer.
_DATA: Final = 3
_RANK: Final = 4
_DIMENSIONS: Final = 5
_METADATA_EXTENSION: Final = 1  # a type of extension
_METADATA: Final = 3  # in that extension
# Positions of the interface's functions.
_FAIL: Final = 6
_SCHEDULE: Final = 17
_COUNT_THREADS: Final = 18
_RESOURCE_EXHAUSTED: Final = 8  # an error code


@intrinsic
def _call_c(typing: Any, function: Any, request: Any) -> Any:
    """Call the C function at an address with one address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(LONG, [LONG])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.int64(types.int64, types.int64), generate


@compiled
def write_metadata(frame: int) -> bool:
    """Write our version and return True, if XLA's call only queries metadata."""
    extension = load_i64(frame, _EXTENSION)
    if extension == 0 or load_i32(extension, 2) != _METADATA_EXTENSION:
        return False
    metadata = load_i64(extension, _METADATA)
    store_i32(metadata, 6, VERSION[0])
    store_i32(metadata, 7, VERSION[1])
    return True


@compiled
def argument(frame: int, index: int) -> int:
    """Return the address of an argument's data."""
    return load_i64(load_i64(load_i64(frame, _ARGUMENTS + _BUFFERS), index), _DATA)


@compiled
def result(frame: int, index: int) -> int:
    """Return the address of a result's data."""
    return load_i64(load_i64(load_i64(frame, _RESULTS + _BUFFERS), index), _DATA)


@compiled
def argument_bytes(frame: int, index: int, size: int) -> int:
    """Return the size of an argument in bytes; `size` is that of an element."""
    buffer = load_i64(load_i64(frame, _ARGUMENTS + _BUFFERS), index)
    dimensions = load_i64(buffer, _DIMENSIONS)
    for axis in range(load_i64(buffer, _RANK)):
        size *= load_i64(dimensions, axis)
    return size


@compiled
def count_threads(frame: int, request: int) -> int:
    """Return the number of XLA's threads; `request` is memory for five int64."""
    store_i64(request, 0, 32)
    store_i64(request, 1, 0)
    store_i64(request, 2, load_i64(frame, _CONTEXT))
    store_i64(request, 3, request + 32)
    failed = _call_c(load_i64(load_i64(frame, _API), _COUNT_THREADS), request)
    return 1 if failed else load_i64(request, 4)


@compiled
def schedule(frame: int, request: int, task: int, data: int) -> bool:
    """Schedule `task(data)` on one of XLA's threads; return whether XLA took it.

    `request` as for `count_threads`.
    """
    store_i64(request, 0, 40)
    store_i64(request, 1, 0)
    store_i64(request, 2, load_i64(frame, _CONTEXT))
    store_i64(request, 3, task)
    store_i64(request, 4, data)
    return _call_c(load_i64(load_i64(frame, _API), _SCHEDULE), request) == 0


@compiled
def no_memory(frame: int, request: int) -> int:
    """Return an error that XLA raises in the caller; `request` as `count_threads`."""
    store_i64(request, 0, 32)
    store_i64(request, 1, 0)
    store_i64(request, 2, _message())
    store_i64(request, 3, _RESOURCE_EXHAUSTED)
    return _call_c(load_i64(load_i64(frame, _API), _FAIL), request)


@intrinsic
def _message(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = "no memory to move these sessions in"
        return builder.ptrtoint(context.insert_const_string(builder.module, text), LONG)

    return types.int64(), generate
