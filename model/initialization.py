"""S5 initialization: HiPPO-LegS in normal form, block-diagonal (Smith et al. 2023)."""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.typing import Initializer

from saccade.model.array_types import Array, Float

Spectrum: TypeAlias = npt.NDArray[np.complex128]
Vectors: TypeAlias = npt.NDArray[np.complex128]
Pairs: TypeAlias = Float[Array, "rows columns 2"]


def legs_spectrum(size: int) -> tuple[Spectrum, Vectors]:
    """Diagonalize the normal part of the HiPPO-LegS matrix.

    Returns:
        Eigenvalues, (size,), in ascending order of their imaginary part, and the
        unitary matrix of eigenvectors, (size, size).
    """
    roots = np.sqrt(1 + 2 * np.arange(size))
    lower = -np.tril(np.outer(roots, roots)) + np.diag(np.arange(size, dtype=float))
    low_rank = np.sqrt(np.arange(size) + 0.5)
    normal = lower + np.outer(low_rank, low_rank)
    real = np.full(size, np.mean(np.diag(normal)))
    imaginary, vectors = np.linalg.eigh(-1j * normal)
    return real + 1j * imaginary, vectors


def block_diagonal_legs(
    states: int, block_size: int, *, conj_sym: bool
) -> tuple[Spectrum, Vectors]:
    """Diagonalize a matrix of equal LegS blocks along its diagonal.

    Args:
        states: Size of the whole matrix, a multiple of `block_size`.
        block_size: Size of one block.
        conj_sym: Keep one eigenvalue of each conjugate pair.

    Returns:
        Eigenvalues (p,) and eigenvectors (states, p); p is `states`, or half of it.
    """
    eigenvalues, vectors = legs_spectrum(block_size)
    kept = block_size // 2 if conj_sym else block_size
    blocks = states // block_size
    return (
        np.tile(eigenvalues[:kept], blocks),
        np.kron(np.eye(blocks), vectors[:, :kept]).astype(np.complex128),
    )


def _as_pairs(matrix: Array) -> Pairs:
    return jnp.stack([matrix.real, matrix.imag], axis=-1)


def input_matrix(vectors: Vectors, features: int) -> Initializer:
    """Draw B in the original basis and rotate it into the eigenbasis, (p, h, 2)."""

    def draw(key: Array) -> Pairs:
        original = jax.nn.initializers.lecun_normal()(key, (len(vectors), features))
        return _as_pairs(jnp.asarray(vectors.conj().T, jnp.complex64) @ original)

    return draw


def output_matrix(vectors: Vectors, features: int) -> Initializer:
    """Draw C in the original basis and rotate it into the eigenbasis, (h, p, 2)."""

    def draw(key: Array) -> Pairs:
        shape = (features, len(vectors), 2)
        pairs = jax.nn.initializers.lecun_normal()(key, shape)
        original = pairs[..., 0] + 1j * pairs[..., 1]
        return _as_pairs(original @ jnp.asarray(vectors, jnp.complex64))

    return draw


def log_timescales(states: int, dt_min: float, dt_max: float) -> Initializer:
    """Draw log Δ uniformly between log dt_min and log dt_max, (p, 1)."""

    def draw(key: Array) -> Float[Array, "p 1"]:
        low, high = np.log(dt_min), np.log(dt_max)
        return jax.random.uniform(key, (states, 1), minval=low, maxval=high)

    return draw
