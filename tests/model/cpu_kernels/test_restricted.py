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

SCORED = """
import hashlib, sys
from saccade.model.cpu_kernels import machine
machine.BLOCK_ROWS = int(sys.argv[1]) or machine.BLOCK_ROWS
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from saccade.model import backends, classifier
from tests.model.variants import VARIANTS, random_variables
config = VARIANTS[0]
variables = random_variables(config)
native = backends.native(config, classifier.fold(config, variables))
fresh = classifier.init_carry(config, variables)
carry = jax.tree.map(lambda leaf: jnp.stack([leaf] * 70), fresh)
rng = np.random.default_rng(0)
shape = 70, 3 * config.tick_events
tokens = rng.integers(config.num_embeddings, size=shape).astype(np.int32)
dt_ms = rng.exponential(1.0, shape).astype(np.float32)
ticks = np.arange(70, dtype=np.int32) % 4
move = jax.jit(partial(native.advance, config))
moved = jax.tree.leaves(move(native.weights, carry, tokens, dt_ms, ticks))
parts = b"".join(np.asarray(leaf).tobytes() for leaf in moved)
print(hashlib.sha256(parts).hexdigest())
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


@pytest.mark.slow
def test_scores_and_states_do_not_depend_on_how_many_rows_a_block_has() -> None:
    """A session, and the kept code, may go on upon a machine with another cache."""

    def scored(rows: int) -> str:
        command = [sys.executable, "-c", SCORED, str(rows)]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout

    assert scored(0) == scored(16)
