"""Prints the assembly of the kernels for one instruction set.

    python assembly.py AVX512|AVX2|NEON

A test runs this in a process of its own: a process has one instruction set. The code
that numba optimised here, all that a call of XLA's runs, is what LLVM then compiles for
the other processor.
"""

from __future__ import annotations

import re
import sys
from typing import Final

from llvmlite import binding

from saccade.model.cpu_kernels import machine

PROCESSORS: Final = {
    "AVX512": ("x86_64-unknown-linux-gnu", "x86-64-v4", ""),
    "AVX2": ("x86_64-unknown-linux-gnu", "x86-64-v3", ""),
    "NEON": ("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon"),
}


def assembly(code: str, triple: str, cpu: str, features: str) -> str:
    """Return the assembly that LLVM makes of its intermediate code for a processor."""
    target = binding.Target.from_triple(triple)
    compiler = target.create_target_machine(cpu=cpu, features=features, opt=3)
    code = re.sub(r'target triple = ".*"', f'target triple = "{triple}"', code)
    layout = f'target datalayout = "{compiler.target_data}"'
    module = binding.parse_assembly(re.sub(r"target datalayout = .*", layout, code))
    return str(compiler.emit_assembly(module))


def main(name: str) -> None:
    """Print the assembly of the function that XLA calls, and of all that it calls."""
    vars(machine)["MACHINE"] = getattr(machine, name)  # before the kernels read it
    from saccade.model.cpu_kernels import memory

    vars(memory)["PROCESSOR"] = ""  # numba compiles for this processor, too
    from saccade.model.cpu_kernels import handler

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    code = handler.c_function(version=1, keep=False).inspect_llvm()
    sys.stdout.write(assembly(code, *PROCESSORS[name]))


if __name__ == "__main__":
    main(sys.argv[1])
