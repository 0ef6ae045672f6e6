"""Compilation by numba, and vectors of `WIDTH` float32 with their operations.

A vector is one register of the machine: with a wider one LLVM would keep halves of it
in memory. Memory is given by an address, an int64, and an index that counts numbers of
four bytes. Nothing is checked: the caller guarantees what lies there.

Each compiled function is unwrapped first: tests wrap functions to check their
annotations.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import numba
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import overload, register_model

from saccade.model.compiled_parts import PartCompiler
from saccade.model.cpu_kernels.machine import MACHINE

Function = TypeVar("Function", bound=Callable[..., Any])

# A kernel may not raise: division by zero follows IEEE 754.
_RULES: Final[dict[str, Any]] = {"nogil": True, "error_model": "numpy"}
# Wrappers for other callers would be a third of all that is compiled.
_OPTIONS: Final = _RULES | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: Function) -> Function:
    """Compile a function, when the first compiled function calls it.

    Python must not call it: there is no wrapper that would take the arguments.
    """
    result: Function = numba.njit(
        inspect.unwrap(function), pipeline_class=PartCompiler, **_OPTIONS
    )
    return result


def called_from_python(function: Function) -> Function:
    """Compile a function that Python calls, as compiled functions do."""
    result: Function = numba.njit(inspect.unwrap(function), **_RULES)
    return result


def inlined(function: Function) -> Function:
    """Compile a function that LLVM inlines into each of its callers."""
    result: Function = numba.njit(
        inspect.unwrap(function),
        forceinline=True,
        pipeline_class=PartCompiler,
        **_OPTIONS,
    )
    return result


def merged(function: Function) -> Function:
    """Compile a function as a part of its caller: each call level costs a second."""
    result: Function = numba.njit(inspect.unwrap(function), inline="always", **_OPTIONS)
    return result


def intrinsic(function: Callable[..., Any]) -> Any:
    """Return an operation for compiled functions that a function writes as LLVM code.

    The function takes numba's typing context and the arguments' types. It returns a
    signature and the function that generates the code.
    """
    return extending.intrinsic(inspect.unwrap(function))


WIDTH: Final = MACHINE.width
"""Numbers in a vector; loops over rows take so many at a time."""

Lanes: TypeAlias = Any
"""A vector, in annotations of compiled functions."""

_HALVES: Final = [WIDTH >> step for step in range(1, WIDTH.bit_length())]

FLOAT: Final = ir.FloatType()
INT: Final = ir.IntType(32)
LONG: Final = ir.IntType(64)
VECTOR: Final = ir.VectorType(FLOAT, WIDTH)
INTS: Final = ir.VectorType(INT, WIDTH)


class Vector(types.Type):  # type: ignore[misc]
    """The type of `WIDTH` float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{WIDTH}")


vector: Final = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


def pointer(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    """Return a pointer of type `kind` to the number at an index."""
    first = builder.inttoptr(address, FLOAT.as_pointer())
    return builder.bitcast(builder.gep(first, [index]), kind.as_pointer())


def splat(builder: Any, number: Any) -> Any:
    """Return a vector with one number in every lane."""
    nothing = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(INT, 0))
    lanes = ir.Constant(INTS, [0] * WIDTH)
    return builder.shuffle_vector(one, nothing, lanes)


def call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an LLVM intrinsic or a C function by name."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, arguments)


def fused_multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, rounded once."""
    return call(builder, f"llvm.fma.v{WIDTH}f32", VECTOR, [a, b, c])


@intrinsic
def load(typing: Any, address: Any, index: Any) -> Any:
    """Read a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(pointer(builder, args[0], args[1], VECTOR), align=4)

    return vector(types.int64, types.int64), generate


@intrinsic
def store(typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Write a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, value = args
        builder.store(value, pointer(builder, address, index, VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, vector), generate


@intrinsic
def prefetch(typing: Any, address: Any, index: Any) -> Any:
    """Begin to fetch a cache line that is read later.

    The target is the L2 cache: L1 is too small for all that is fetched ahead.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = pointer(builder, args[0], args[1], ir.IntType(8))
        hints = [ir.Constant(INT, hint) for hint in (0, 2, 1)]  # read, L2, data
        call(builder, "llvm.prefetch.p0", ir.VoidType(), [where, *hints])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _mask(builder: Any, count: Any) -> Any:
    """Return a mask of the first `count` lanes."""
    lanes = ir.Constant(INTS, list(range(WIDTH)))
    nothing = ir.Constant(INTS, ir.Undefined)
    few = builder.trunc(count, INT)
    one = builder.insert_element(nothing, few, ir.Constant(INT, 0))
    most = builder.shuffle_vector(one, nothing, ir.Constant(INTS, [0] * WIDTH))
    return builder.icmp_signed("<", lanes, most)


@intrinsic
def load_partial(typing: Any, address: Any, index: Any, count: Any) -> Any:
    """Read `count` numbers, at most `WIDTH`; the other lanes are zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = pointer(builder, args[0], args[1], VECTOR)
        zeros = ir.Constant(VECTOR, [0.0] * WIDTH)
        given = [where, ir.Constant(INT, 4), _mask(builder, args[2]), zeros]
        return call(builder, f"llvm.masked.load.v{WIDTH}f32.p0", VECTOR, given)

    return vector(types.int64, types.int64, types.int64), generate


@intrinsic
def store_partial(typing: Any, address: Any, index: Any, count: Any, value: Any) -> Any:
    """Write the first `count` lanes, at most `WIDTH`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address, index, count, value = args
        where = pointer(builder, address, index, VECTOR)
        given = [value, where, ir.Constant(INT, 4), _mask(builder, count)]
        call(builder, f"llvm.masked.store.v{WIDTH}f32.p0", ir.VoidType(), given)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, vector), generate


@intrinsic
def broadcast(typing: Any, number: Any) -> Any:
    """Return a vector with one number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return splat(builder, args[0])

    return vector(types.float32), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return fused_multiply_add(builder, *args)

    return vector(vector, vector, vector), generate


@intrinsic
def fnma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return c - a·b, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, c = args
        return fused_multiply_add(builder, builder.fneg(a), b, c)

    return vector(vector, vector, vector), generate


@intrinsic
def reduce_add(typing: Any, value: Any) -> Any:
    """Return the sum of a vector's lanes, added in pairs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (value,) = args
        nothing = ir.Constant(VECTOR, ir.Undefined)
        for half in _HALVES:
            lanes = [(lane + half) % WIDTH for lane in range(WIDTH)]
            other = builder.shuffle_vector(value, nothing, ir.Constant(INTS, lanes))
            value = builder.fadd(value, other)
        return builder.extract_element(value, ir.Constant(INT, 0))

    return types.float32(vector), generate


@intrinsic
def largest(typing: Any, value: Any) -> Any:
    """Return the largest magnitude of a vector's lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = call(builder, f"llvm.fabs.v{WIDTH}f32", VECTOR, list(args))
        nothing = ir.Constant(VECTOR, ir.Undefined)
        for half in _HALVES:
            lanes = [(lane + half) % WIDTH for lane in range(WIDTH)]
            other = builder.shuffle_vector(value, nothing, ir.Constant(INTS, lanes))
            value = call(builder, f"llvm.maxnum.v{WIDTH}f32", VECTOR, [value, other])
        return builder.extract_element(value, ir.Constant(INT, 0))

    return types.float32(vector), generate


@intrinsic
def first_lane(typing: Any, value: Any) -> Any:
    """Return a vector's first number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.extract_element(args[0], ir.Constant(INT, 0))

    return types.float32(vector), generate


@intrinsic
def exp2_integer(typing: Any, whole: Any) -> Any:
    """Return 2 to integers in [-126, 127], by the bits of the exponent."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.fptosi(args[0], INTS)
        biased = builder.add(exponent, ir.Constant(INTS, [127] * WIDTH))
        bits = builder.shl(biased, ir.Constant(INTS, [23] * WIDTH))
        return builder.bitcast(bits, VECTOR)

    return vector(vector), generate


def _unary(name: str) -> Any:
    @intrinsic
    def function(typing: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return call(builder, f"llvm.{name}.v{WIDTH}f32", VECTOR, list(args))

        return vector(vector), generate

    return function


def _binary(name: str) -> Any:
    @intrinsic
    def function(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return call(builder, f"llvm.{name}.v{WIDTH}f32", VECTOR, list(args))

        return vector(vector, vector), generate

    return function


nearest: Final = _unary("rint")
sqrt: Final = _unary("sqrt")
minimum: Final = _binary("minnum")
maximum: Final = _binary("maxnum")


def _operator(symbol: Callable[[Any, Any], Any], name: str) -> None:
    """Define an operator, such as a + b, on vectors in compiled functions."""

    @intrinsic
    def apply(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return vector(vector, vector), generate

    @overload(symbol)  # type: ignore[untyped-decorator]
    def choose(a: Any, b: Any) -> Any:
        def implementation(a: Any, b: Any) -> Any:
            return apply(a, b)

        return inspect.unwrap(implementation) if a == b == vector else None


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")
