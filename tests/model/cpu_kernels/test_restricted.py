"""The kernels' tests hold too where they are compiled for an older instruction set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="no native code without numba")

from benchmarks.instructions import RESTRICTIONS
from saccade.model.cpu_kernels.machine import AVX2, MACHINE, features

FILES = ("test_vectors.py", "test_cpu_kernels.py")
SUBSET = "however_it_is_cut or every_variant_moves or test_vectors"
STATED = """
from saccade.model.cpu_kernels.machine import MACHINE
from saccade.model.cpu_kernels.vectors import WIDTH
print(MACHINE.instructions, WIDTH)
"""

needs_avx2 = pytest.mark.skipif(
    not {"avx2", "fma"} <= features(), reason="this CPU does not run AVX2"
)


def run(*arguments: str) -> str:
    """Run Python as for a CPU with no more than AVX2."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **RESTRICTIONS["avx2"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@needs_avx2
def test_a_restriction_takes_the_vectors_of_that_instruction_set() -> None:
    assert run("-c", STATED).split() == ["AVX2", "8"]


@needs_avx2
@pytest.mark.slow
@pytest.mark.skipif(MACHINE == AVX2, reason="all tests run with AVX2 here")
def test_with_avx2_the_kernels_do_as_xla_does_and_as_themselves_in_other_cuts() -> None:
    files = [str(Path(__file__).with_name(name)) for name in FILES]
    assert "passed" in run("-m", "pytest", "-q", "-k", SUBSET, *files)
