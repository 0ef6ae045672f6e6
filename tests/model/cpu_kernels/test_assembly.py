"""The inner loops that LLVM makes for each instruction set keep all in registers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="no native code without numba")

from llvmlite import binding

from saccade.model.cpu_kernels import machine

LEAST = 7  # fused multiply-adds in a loop that counts
FUSED = re.compile(r"vfn?m(add|sub)\w+ps|fml[as]\s")
UNFUSED = re.compile(r"v(mul|add|sub)ps|f(mul|add|sub)\s+v")
SPILLED = re.compile(
    r"vmov\w*ps\s+%[xyz]mm\d+, (.*\(%rsp\)|-\d+\(%rbp\))|st[rp]\s+q.*\[(sp|x29)"
)
"""Without a frame %rbp is an address like any other: of a frame's part it is below."""
SUMS_SPILL = {"NEON": 2, "AVX2": 0, "AVX512": 0}
"""Vectors that each token of the group sums stores on the stack, at most."""
LABEL = re.compile(r"(\.L\w+):")
JUMP = re.compile(r"(?:j[a-z]+|b(?:\.\w+)?|cbn?z)\s+(?:\w+, )?(\.L\w+)$")


def loops(lines: list[str]) -> Iterator[list[str]]:
    """Yield the instructions of each innermost loop."""
    labels: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for place, line in enumerate(lines):
        if label := LABEL.match(line):
            labels[label[1]] = place
        elif (jump := JUMP.match(line)) and jump[1] in labels:
            found.append((labels[jump[1]], place))
    for begin, end in found:
        within = [(a, b) for a, b in found if begin <= a and b <= end]
        if within == [(begin, end)]:
            yield lines[begin + 1 : end + 1]


def large_loops(kernel: str) -> list[list[str]]:
    """Return a kernel's innermost loops that do most of its work."""
    lines = [re.split(r"\s+(?:#|//)", line)[0].strip() for line in kernel.split("\n")]
    return [loop for loop in loops(lines) if fused(loop) >= LEAST]


def fused(loop: list[str]) -> int:
    return sum(bool(FUSED.match(line)) for line in loop)


@pytest.mark.parametrize(
    "name",
    [
        "NEON",
        pytest.param("AVX2", marks=pytest.mark.slow),
        pytest.param("AVX512", marks=pytest.mark.slow),
    ],
)
def test_products_exponentials_and_sums_stay_in_registers_and_are_fused(
    name: str,
) -> None:
    needed = "aarch64" if name == "NEON" else "x86_64"
    binding.initialize_all_targets()
    try:
        binding.Target.from_triple(f"{needed}-unknown-linux-gnu")
    except RuntimeError as missing:
        pytest.skip(f"this LLVM does not compile for {needed}: {missing}")
    program = Path(__file__).with_name("assembly.py")
    command = [sys.executable, str(program), name]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    *products, decays, near_decays, sums = printed.stdout.split("kernel ")[1:]
    kind = getattr(machine, name)
    vectors = machine.LINE // kind.width
    for product, (rows, strips) in zip(products, kind.tiles, strict=True):
        found = large_loops(product)
        assert rows * strips * vectors in map(fused, found)
        for loop in found:
            assert not [line for line in loop if SPILLED.match(line)]
            assert not [line for line in loop if UNFUSED.match(line)]
    for kernel, most in ((decays, 0), (near_decays, 0), (sums, SUMS_SPILL[name])):
        found = large_loops(kernel)
        assert found
        for loop in found:
            assert sum(bool(SPILLED.match(line)) for line in loop) <= most
