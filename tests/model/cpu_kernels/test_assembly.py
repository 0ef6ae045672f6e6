"""The inner loops that LLVM makes for each instruction set keep all in registers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import pytest

pytest.importorskip("numba", reason="no native code without numba")

from llvmlite import binding

from saccade.model.cpu_kernels import machine

HERE: Final = Path(__file__).parent
FUSED: Final = re.compile(r"vfn?m(add|sub)\w+ps|fml[as]\s")
UNFUSED: Final = re.compile(r"v(mul|add|sub)ps|f(mul|add|sub)\s+v")
SPILLED: Final = re.compile(
    r"vmov\w*ps\s+%[xyz]mm\d+, (.*\(%rsp\)|-\d+\(%rbp\))|stu?[rp]\s+q.*\[sp"
)
"""Without a frame %rbp is an address like any other: of a frame's part it is below."""
FRAME: Final = re.compile(r"(mov|add)\s+x29, sp")
"""The start of a frame on aarch64; without one x29 is an address like any other."""
IN_FRAME: Final = re.compile(r"stu?[rp]\s+q.*\[x29, #-")
SUMS: Final = "group_sums10sum_states"
TOKEN_LOOPS: Final = 2  # of states whose decays are near 1, and of others


def imported(name: str) -> ModuleType:
    """Return a module that lies beside this one; tests are no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_fused(line: str) -> bool:
    return bool(FUSED.match(line))


class Loop(NamedTuple):
    """An innermost loop that does arithmetic, and its instructions that spill."""

    function: str
    lines: list[str]
    spilled: list[str]


def loops_of(assembly: str) -> Iterator[Loop]:
    loops = imported("assembly_loops")
    for name, lines in loops.functions(assembly):
        framed = any(FRAME.match(line) for line in lines)
        patterns = [SPILLED, IN_FRAME] if framed else [SPILLED]
        for loop in loops.innermost(lines, is_fused):
            spilled = [line for line in loop if any(p.match(line) for p in patterns)]
            yield Loop(name, loop, spilled)


@pytest.mark.parametrize(
    "name",
    [
        "NEON",
        pytest.param("AVX2", marks=pytest.mark.slow),
        pytest.param("AVX512", marks=pytest.mark.slow),
    ],
)
def test_no_inner_loop_spills_a_vector_and_products_are_fused(name: str) -> None:
    needed = "aarch64" if name == "NEON" else "x86_64"
    binding.initialize_all_targets()
    try:
        binding.Target.from_triple(f"{needed}-unknown-linux-gnu")
    except RuntimeError as missing:
        pytest.skip(f"this LLVM does not compile for {needed}: {missing}")
    command = [sys.executable, str(HERE / "assembly.py"), name]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [*loops_of(printed.stdout)]
    for loop in found:
        assert not loop.spilled, loop.function
    products = [loop.lines for loop in found if "multiply_rows" in loop.function]
    for lines in products:
        assert not [line for line in lines if UNFUSED.match(line)]
    kind = getattr(machine, name)
    sizes = [sum(map(is_fused, lines)) for lines in products]
    for rows, strips in kind.tiles:
        sums = rows * strips * (machine.LINE // kind.width)
        assert {sums, 2 * sums} & {*sizes}  # LLVM takes two steps at once, or one
    assert sum(SUMS in loop.function for loop in found) == TOKEN_LOOPS


def test_a_vector_that_a_loop_stores_on_the_stack_is_found() -> None:
    spilling = """kernel:
    mov x1, #8
.LBB0_1:
    fmla v0.4s, v1.4s, v2.4s
    cbz x3, .LBB0_3
.LBB0_2:
    ldr q3, [x2], #16
    subs x4, x4, #1
    b.ne .LBB0_2
    str q0, [sp, #32]
.LBB0_3:
    subs x1, x1, #1
    b.ne .LBB0_1
    str q0, [sp, #48]
    ret
"""
    (loop,) = loops_of(spilling)
    assert loop.function == "kernel"
    assert loop.spilled == ["str q0, [sp, #32]"]
