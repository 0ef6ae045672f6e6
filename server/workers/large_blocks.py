"""How the processes beside the engine give back memory of large messages.

A snapshot of a congested session is some megabytes, which each process on its way to
the store holds for a moment. glibc takes such blocks from the system at first; once one
was freed, it takes later ones from the heap, where they leave gaps.
"""

from __future__ import annotations

import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""mallopt's parameter, from malloc.h."""
LARGE_BYTES: Final = 1 << 21


def return_large_blocks() -> None:
    """Have glibc, where it is the C library, return large blocks once freed."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
