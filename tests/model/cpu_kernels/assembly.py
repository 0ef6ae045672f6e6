"""Prints the assembly of the kernels' inner loops for one instruction set.

    python assembly.py AVX512|AVX2|NEON

A test runs this in a process of its own: a process has one instruction set. The code
that numba optimised here is what LLVM then compiles for the other processor.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

from llvmlite import binding
from numba import types

from saccade.model.cpu_kernels import machine

PROCESSORS: Final = {
    "AVX512": ("x86_64-unknown-linux-gnu", "x86-64-v4", ""),
    "AVX2": ("x86_64-unknown-linux-gnu", "x86-64-v3", ""),
    "NEON": ("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon"),
}
LONG: Final = types.int64


def kernels() -> list[tuple[Any, tuple[Any, ...]]]:
    """Return functions with large inner loops, and the types of their arguments."""
    from saccade.model.cpu_kernels import group_sums, matmul, recurrence
    from saccade.model.cpu_kernels.functions import complex_exp_near, load_rates
    from saccade.model.cpu_kernels.memory import load_f32
    from saccade.model.cpu_kernels.vectors import broadcast, compiled, store

    @compiled
    def near_decays(ms: int, rows: int, rates: tuple[int, int], result: int) -> None:
        doublings, turns = load_rates(rates, 0)
        for row in range(rows):
            gap = broadcast(load_f32(ms, row))
            real, imag = complex_exp_near(doublings, turns, gap)
            store(result, 32 * row, real)
            store(result, 32 * row + 16, imag)

    pair = types.UniTuple(LONG, 2)
    products = (matmul._many, matmul._some, matmul._few, matmul._one)
    return [
        *((product, (LONG,) * 7) for product in products),
        (recurrence.decays, (LONG, LONG, pair, LONG, LONG)),
        (near_decays, (LONG, LONG, pair, LONG)),
        (
            group_sums.sum_states,
            (
                fields(group_sums.Groups),
                LONG,
                fields(group_sums.Projections),
                pair,
                *(LONG,) * 4,
            ),
        ),
    ]


def fields(kind: Any) -> Any:
    """Return the type of a tuple of addresses and sizes."""
    return types.NamedUniTuple(LONG, len(kind._fields), kind)


def assembly(code: str, triple: str, cpu: str, features: str) -> str:
    """Return the assembly that LLVM makes of its intermediate code for a processor."""
    target = binding.Target.from_triple(triple)
    compiler = target.create_target_machine(cpu=cpu, features=features, opt=3)
    code = re.sub(r'target triple = ".*"', f'target triple = "{triple}"', code)
    layout = f'target datalayout = "{compiler.target_data}"'
    module = binding.parse_assembly(re.sub(r"target datalayout = .*", layout, code))
    return str(compiler.emit_assembly(module))


def main(name: str) -> None:
    """Print each kernel's assembly."""
    vars(machine)["MACHINE"] = getattr(machine, name)  # before the kernels read it
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    for function, arguments in kernels():
        function.compile(arguments)
        code = function.inspect_llvm(function.signatures[0])
        sys.stdout.write(f"kernel {function.__name__}\n")
        sys.stdout.write(assembly(code, *PROCESSORS[name]))


if __name__ == "__main__":
    main(sys.argv[1])
