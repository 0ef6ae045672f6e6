"""Periodic pictures of log intensity for the simulated scenes.

Each function `paint_…` returns patches of a pattern on a plain ground. The patches
keep the number of events near that of a real scene of the same speed: a pattern that
filled the view would give a million events a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

FloatImage: TypeAlias = npt.NDArray[np.float32]

CANVAS: Final = 512
"""The side of a canvas, texels; a power of two, so that a mask wraps it."""
CONTRAST: Final = (0.5, 1.1)
"""Log intensity of a pattern's peak above the ground."""
COVERAGE: Final = (0.06, 0.14)
"""The part of a canvas that patches cover."""
TEXTURE_CELLS: Final = (28, 34, 42, 51)
PATCH_CELLS: Final = 30
VARIANTS: Final = 4


def paint_texture(rng: np.random.Generator) -> FloatImage:
    """Paint patches of smooth random texture, shape (CANVAS, CANVAS)."""
    contrast = _contrast(rng) / np.float32(1.2)
    texture = _noise(int(rng.choice(TEXTURE_CELLS)), int(rng.integers(VARIANTS)))
    patches = _patches(rng)
    patches *= contrast
    patches *= texture
    return patches


def paint_plaid(rng: np.random.Generator) -> FloatImage:
    """Paint patches of two crossed gratings, shape (CANVAS, CANVAS).

    A motion along its stripes does not change a single grating.
    """
    angle = rng.uniform(0, np.pi)
    plaid = _grating(angle, rng)
    plaid += _grating(angle + rng.uniform(0.9, np.pi - 0.9), rng)
    plaid *= np.float32(0.5) * _contrast(rng)
    plaid *= _patches(rng)
    return plaid


def paint_shapes(rng: np.random.Generator) -> FloatImage:
    """Paint discs, rectangles and polygons, shape (CANVAS, CANVAS)."""
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    contrast = _contrast(rng)
    for _ in range(int(rng.integers(14, 30))):
        radius = float(rng.uniform(6, 22))
        left, top = rng.integers(CANVAS, size=2)
        rows, columns = (
            (start + np.arange(2 * int(radius) + 6)) % CANVAS for start in (top, left)
        )
        outline = OUTLINES[rng.integers(len(OUTLINES))]
        shape = _filled(outline(radius, rng))
        shape *= contrast * np.float32(rng.uniform(0.6, 1.0) * (-1) ** rng.integers(2))
        covered = canvas[rows[:, None], columns]
        canvas[rows[:, None], columns] = np.where(shape != 0, shape, covered)
    return canvas


def _contrast(rng: np.random.Generator) -> np.float32:
    return np.float32(rng.uniform(*CONTRAST))


def _disc(radius: float, rng: np.random.Generator) -> FloatImage:
    """Return the signed distance from a disc's edge, texels, negative inside."""
    across = _around(radius)
    distance: FloatImage = np.hypot(across[:, None], across) - np.float32(radius)
    return distance


def _rectangle(radius: float, rng: np.random.Generator) -> FloatImage:
    half_sides = radius * rng.uniform(0.3, 0.7, 2)
    turn = rng.uniform(0, np.pi)
    angles = turn + np.arange(4) * np.pi / 2
    return _convex(radius, angles, half_sides[[0, 1, 0, 1]])


def _polygon(radius: float, rng: np.random.Generator) -> FloatImage:
    sides = int(rng.integers(3, 7))
    angles = rng.uniform(0, np.pi) + np.arange(sides) * 2 * np.pi / sides
    return _convex(radius, angles, np.full(sides, radius * np.cos(np.pi / sides)))


OUTLINES: Final[tuple[Callable[[float, np.random.Generator], FloatImage], ...]] = (
    _disc,
    _rectangle,
    _polygon,
)


def _around(radius: float) -> FloatImage:
    half = int(radius) + 2.5
    return np.arange(-half, half + 0.5, dtype=np.float32)


def _convex(
    radius: float, angles: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]
) -> FloatImage:
    """Return the signed distance from the edges of a convex polygon, texels."""
    across = _around(radius)
    x = np.cos(angles)[:, None] * across - distances[:, None]
    y = np.sin(angles)[:, None] * across
    edges = y.astype(np.float32)[:, :, None] + x.astype(np.float32)[:, None, :]
    distance: FloatImage = edges.max(axis=0)
    return distance


def _filled(distance: FloatImage) -> FloatImage:
    """Return 1 inside, 0 outside, with an edge two texels wide."""
    filled: FloatImage = np.clip(0.5 - 0.5 * distance, 0, 1)
    return filled


def _grating(angle: float, rng: np.random.Generator) -> FloatImage:
    """Return a grating of whole periods, values in -1 … 1."""
    periods = rng.uniform(10, 24)
    along = 2 * np.pi / CANVAS * np.arange(CANVAS)
    phase = rng.uniform(0, 2 * np.pi)
    x = (np.round(periods * np.cos(angle)) * along + phase).astype(np.float32)
    y = (np.round(periods * np.sin(angle)) * along).astype(np.float32)[:, None]
    # sin(x + y) as two outer products: no sine of every texel.
    grating: FloatImage = np.cos(y) * np.sin(x)
    grating += np.sin(y) * np.cos(x)
    return grating


def _patches(rng: np.random.Generator) -> FloatImage:
    """Return a mask: 1 in soft-edged patches on COVERAGE of the canvas, else 0."""
    field = _noise(PATCH_CELLS, int(rng.integers(VARIANTS)))
    # Patches and patterns are few; a random shift makes many pairs of them.
    field = np.roll(field, rng.integers(CANVAS, size=2), axis=(0, 1))
    field -= np.float32(np.quantile(field[::8, ::8], 1 - rng.uniform(*COVERAGE)))
    field *= 4
    np.clip(field, 0, 1, out=field)
    return field


@lru_cache(maxsize=256)
def _noise(cells: int, variant: int) -> FloatImage:
    """Return smooth periodic noise with `cells` knots a side, of unit variance."""
    rng = np.random.default_rng([cells, variant])
    knots = rng.standard_normal((cells, cells), dtype=np.float32)
    noise = _upsampled(_upsampled(knots).T)
    noise.flags.writeable = False
    return noise


def _upsampled(knots: FloatImage) -> FloatImage:
    """Interpolate rows of knots, (k, n), to one row per texel, (CANVAS, n)."""
    nearest, weights = _bells(len(knots))
    rows: FloatImage = weights[0] * knots[nearest[0]]
    for row, weight in zip(nearest[1:], weights[1:], strict=True):
        rows += weight * knots[row]
    return rows


def _bells(cells: int) -> tuple[npt.NDArray[np.intp], FloatImage]:
    """Return the three knots near each texel, (3, CANVAS), and their weights.

    The weights, (3, CANVAS, 1), are a periodic cosine bell; their squares add up
    to one, which keeps the variance of independent knots.
    """
    texels = np.arange(CANVAS) * (cells / CANVAS)
    knots = np.round(texels).astype(np.intp) + np.array([[-1], [0], [1]])
    bells = np.cos(np.pi / 3 * (texels - knots)) ** 2
    bells /= np.sqrt((bells**2).sum(axis=0))
    return knots % cells, bells[:, :, None].astype(np.float32)
