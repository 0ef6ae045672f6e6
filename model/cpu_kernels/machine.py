"""What the kernels adapt to a machine: vectors, tiles and blocks.

A block's rows follow from the second cache, which holds a block's scratch matrices
through all layers: 940 KiB for 64 rows of dvs/small.

The instructions are those that numba compiles for: the host's, unless NUMBA_CPU_NAME
and NUMBA_CPU_FEATURES name others, as in `x86-64-v3` and `+avx2,+fma`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from llvmlite import binding
from numba import config

from saccade.model.cpu_caches import share_bytes, usable_cores

LINE: Final = 16
"""Numbers of float32 in a cache line; rows and columns are padded to whole lines."""

Tiles = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]


class Machine(NamedTuple):
    """One instruction set.

    Attributes:
        instructions: Its name.
        width: Numbers of float32 in a register.
        tiles: Tiles of matrix products for many rows and for the few that are left:
            (rows, strips of 16 columns), the last one for a single row. A tile's sums
            fit into the registers, beside a strip's row of weights and one number, and
            are enough to hide the latency of an addition.
    """

    instructions: str
    width: int
    tiles: Tiles


AVX512: Final = Machine("AVX-512", 16, ((8, 2), (4, 4), (2, 8), (1, 16)))
AVX2: Final = Machine("AVX2", 8, ((6, 1), (4, 1), (2, 2), (1, 4)))
NEON: Final = Machine("NEON", 4, ((6, 1), (4, 1), (2, 2), (1, 4)))
OTHER: Final = Machine("other", 4, ((2, 1), (2, 1), (2, 1), (1, 2)))
"""For anything else; without fused multiply-add XLA is faster, and is taken."""

_NEEDED: Final = (
    (AVX512, {"avx512f", "avx512vl", "fma"}),
    (AVX2, {"avx2", "fma"}),
    (NEON, {"neon"}),
)


def features() -> set[str]:
    """Return the CPU's features for which numba compiles, by LLVM's names."""
    if config.CPU_FEATURES is None:
        found = binding.get_host_cpu_features().items()
        return {name for name, present in found if present}
    named = config.CPU_FEATURES.split(",")
    return {name[1:] for name in named if name.startswith("+")}


def cpu_name() -> str:
    """Return the CPU for which numba compiles, by LLVM's name."""
    return config.CPU_NAME or binding.get_host_cpu_name()


def machine(present: set[str]) -> Machine:
    """Return the widest instruction set whose features are all present."""
    return next((one for one, needed in _NEEDED if needed <= present), OTHER)


MACHINE: Final = machine(features())

ROW_BYTES: Final = 1 << 14
"""Memory for each row of a block, of the widest published network."""
FEWEST_ROWS: Final = 16
"""Fewer rows read the weights too often, and leave the tiles unfilled."""
MOST_ROWS: Final = 64
"""More rows than that are no faster, and a call has fewer blocks for its threads."""


def block_rows(cache_bytes: int) -> int:
    """Return how many rows a block has: a power of two that fits a thread's cache."""
    fitting = max(cache_bytes // ROW_BYTES, 1)
    return min(max(1 << (fitting.bit_length() - 1), FEWEST_ROWS), MOST_ROWS)


OTHER_CORES: Final = max(usable_cores() - 1, 1)
"""Cores that this process may use, besides one."""

BLOCK_ROWS: Final = block_rows(share_bytes(2))
"""Rows of a block on this machine; see `call.Plan`."""
