"""Reading XLA's text: instructions, what they write, and how they multiply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final

FREE: Final = frozenset(
    ("parameter", "constant", "get-tuple-element", "bitcast", "tuple", "after-all")
)
"""Instructions that run nothing on the device."""

IN_PLACE: Final = frozenset(("dynamic-update-slice", "scatter"))
"""Instructions that write a part of their first operand where that lies."""

LOOPS: Final = frozenset(("while", "conditional"))
EXACT: Final = re.compile(
    r"operand_precision=\{highest,highest\}"
    r"|algorithm=dot_(tf32_tf32_f32_x3|bf16_bf16_f32_x[69]|f32_f32_f32)"
    r'|"operand_precision":\["HIGHEST","HIGHEST"\]'
)
EXACT_LOWERED: Final = re.compile(
    r"precision = \[HIGHEST, HIGHEST\]"
    r"|lhs_precision_type = tf32.*num_primitive_operations = [3-9]"
    r"|lhs_precision_type = bf16.*num_primitive_operations = [69]"
    r"|lhs_precision_type = f32"
)

_COMPUTATION: Final = re.compile(r"^(ENTRY )?%(?P<name>[\w.\-]+) \(")
_INSTRUCTION: Final = re.compile(
    r"^\s+(?P<root>ROOT )?%(?P<name>[\w.\-]+) = "
    r"(?P<shape>\(.*?\)|\S+) (?P<op>[\w\-]+)\((?P<operands>[^)]*)\)"
)
_ARRAY: Final = re.compile(r"[a-z]\w*\[([\d,]*)\]")
_CALLED: Final = re.compile(r"calls=%([\w.\-]+)")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a computation.

    Attributes:
        name: Its name.
        op: What it does, as `fusion`.
        sizes: Numbers in each array that it returns.
        operands: The names of its operands.
        text: The whole line.
    """

    name: str
    op: str
    sizes: tuple[int, ...]
    operands: tuple[str, ...]
    text: str


@dataclass
class Computation:
    """Instructions by name, and the one whose result is the computation's."""

    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""


@dataclass(frozen=True)
class Module:
    """A compiled program: its computations by name, and the name of the entry."""

    computations: Mapping[str, Computation]
    entry: str

    def __iter__(self) -> Iterator[Instruction]:
        for computation in self.computations.values():
            yield from computation.instructions.values()

    def launched(self) -> list[Instruction]:
        """Return the entry's instructions that run on the device."""
        entry = self.computations[self.entry].instructions.values()
        return [
            each
            for each in entry
            if each.op not in FREE and not each.op.endswith("-done")
        ]

    def written(self, instruction: Instruction) -> list[tuple[int, str]]:
        """Return the size of each result, and the instruction that computes it."""
        called = _CALLED.search(instruction.text)
        if instruction.op != "fusion" or not called:
            return [(size, instruction.op) for size in instruction.sizes]
        inside = self.computations[called[1]]
        root = inside.instructions[inside.root]
        names = root.operands if root.op == "tuple" else (root.name,)
        results = [_behind_bitcasts(inside, name) for name in names]
        return list(zip(instruction.sizes, results, strict=True))


def _behind_bitcasts(computation: Computation, name: str) -> str:
    found = computation.instructions[name]
    while found.op == "bitcast":
        found = computation.instructions[found.operands[0]]
    return found.op


def read_module(text: str) -> Module:
    """Read a compiled program's text."""
    computations: dict[str, Computation] = {}
    current, entry = Computation(), ""
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current = computations.setdefault(begun["name"], Computation())
            entry = begun["name"] if begun[1] else entry
        elif found := _INSTRUCTION.match(line):
            current.instructions[found["name"]] = Instruction(
                found["name"],
                found["op"],
                tuple(_size(dims) for dims in _ARRAY.findall(found["shape"])),
                tuple(re.findall(r"%([\w.\-]+)", found["operands"])),
                line.strip(),
            )
            current.root = found["name"] if found["root"] else current.root
    if not entry:
        raise ValueError("the compiled program has no ENTRY: its text has a new form")
    return Module(computations, entry)


def _size(dims: str) -> int:
    return prod(int(dim) for dim in dims.split(",") if dim)


def pool_copies(module: Module, rows: int) -> list[str]:
    """Return what writes a part of every slot's row, other than in place.

    Args:
        module: The program.
        rows: The pool's rows: a prime that divides no other array's size.
    """
    return [
        f"{instruction.name}: {op}"
        for instruction in module.launched()
        for size, op in module.written(instruction)
        if size and size % rows == 0 and op not in IN_PLACE
    ]


def products(module: Module) -> list[Instruction]:
    """Return every matrix product, those that a library computes too."""
    return [
        each
        for each in module
        if each.op == "dot" or (each.op == "custom-call" and "gemm" in each.text)
    ]


def tensor_core_kernels(ptx: str) -> list[str]:
    """Return the kernels that multiply in TF32 or bfloat16, by name."""
    kernels = re.split(r"\.entry\s+", ptx)[1:]
    if not kernels:
        raise ValueError("the compiler's dump holds no kernel's PTX")
    found = (k for k in kernels if re.search(r"mma[\w.:]*\.(tf32|bf16)", k))
    return sorted({re.split(r"\W", kernel, maxsplit=1)[0] for kernel in found})
