"""How XLA calls a foreign function: the frame that it passes, and what it can be asked.

The layout of `XLA_FFI_CallFrame` and of what it points to is that of the stable C
interface (jaxlib's `xla/ffi/api/c_api.h`, major version 0). Indices count eight bytes.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types

from saccade.model.cpu_kernels.memory import (
    long,
    put_long,
    put_whole,
    whole,
)
from saccade.model.cpu_kernels.vectors import LONG, compiled, instruction

VERSION: Final = (0, 3)
"""Of the interface, major and minor."""

_EXTENSION: Final = 1  # of a frame
_API: Final = 2
_CONTEXT: Final = 3
_ARGUMENTS: Final = 5
_RESULTS: Final = 10
_BUFFERS: Final = 4  # of the arguments, or results
_DATA: Final = 3  # of a buffer
_RANK: Final = 4
_DIMENSIONS: Final = 5
_ASKS_METADATA: Final = 1  # a type of extension
_METADATA: Final = 3  # of that extension
_FAIL: Final = 6  # what the api can do
_SCHEDULE: Final = 17
_COUNT_THREADS: Final = 18
_RESOURCE_EXHAUSTED: Final = 8  # a code of an error


@instruction
def _ask(typing: Any, function: Any, request: Any) -> Any:
    """Call a C function of one address, at an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(LONG, [LONG])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.int64(types.int64, types.int64), generate


@compiled
def answer_metadata(frame: int) -> bool:
    """Say which version we speak, if that is what XLA asks for."""
    extension = long(frame, _EXTENSION)
    if extension == 0 or whole(extension, 2) != _ASKS_METADATA:
        return False
    metadata = long(extension, _METADATA)
    put_whole(metadata, 6, VERSION[0])
    put_whole(metadata, 7, VERSION[1])
    return True


@compiled
def argument(frame: int, index: int) -> int:
    """Return the address of an argument's first number."""
    return long(long(long(frame, _ARGUMENTS + _BUFFERS), index), _DATA)


@compiled
def result(frame: int, index: int) -> int:
    """Return the address of a result's first number."""
    return long(long(long(frame, _RESULTS + _BUFFERS), index), _DATA)


@compiled
def argument_bytes(frame: int, index: int, size: int) -> int:
    """Return how many bytes an argument has whose elements have so many."""
    buffer = long(long(frame, _ARGUMENTS + _BUFFERS), index)
    dimensions = long(buffer, _DIMENSIONS)
    for axis in range(long(buffer, _RANK)):
        size *= long(dimensions, axis)
    return size


@compiled
def count_threads(frame: int, request: int) -> int:
    """Return how many threads XLA has for a call; `request` is room for five int64."""
    put_long(request, 0, 32)
    put_long(request, 1, 0)
    put_long(request, 2, long(frame, _CONTEXT))
    put_long(request, 3, request + 32)
    failed = _ask(long(long(frame, _API), _COUNT_THREADS), request)
    return 1 if failed else long(request, 4)


@compiled
def schedule(frame: int, request: int, task: int, data: int) -> bool:
    """Let one of XLA's threads call a function of one address; `request` as above."""
    put_long(request, 0, 40)
    put_long(request, 1, 0)
    put_long(request, 2, long(frame, _CONTEXT))
    put_long(request, 3, task)
    put_long(request, 4, data)
    return _ask(long(long(frame, _API), _SCHEDULE), request) == 0


@compiled
def no_memory(frame: int, request: int) -> int:
    """Return an error that XLA raises in the caller; `request` as above."""
    put_long(request, 0, 32)
    put_long(request, 1, 0)
    put_long(request, 2, _message())
    put_long(request, 3, _RESOURCE_EXHAUSTED)
    return _ask(long(long(frame, _API), _FAIL), request)


@instruction
def _message(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = "no memory to move these sessions in"
        return builder.ptrtoint(context.insert_const_string(builder.module, text), LONG)

    return types.int64(), generate
