"""Initialization of the first layer as motion-energy detectors.

The motion of a scene that fills the sensor shows only in the order of brightness
changes at neighbouring pixels, which independently drawn embeddings take dozens of
epochs to learn. Here every state of the first layer starts as one half of a
motion-energy detector: its input weights over the sensor are a Gabor patch, with the
wavelength that a typical speed turns into the state's own frequency.

Source:
    Adelson & Bergen 1985, doi 10.1364/JOSAA.2.000284.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.classifier import Variables
from saccade.model.config import ModelConfig
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.tokens import Tokenization

FIRST_LAYER: Final = ("encoder", "stages_0", "SequenceLayer_0", "S5SSM_0")
WAVENUMBERS: Final = (0.3, 1.5)
"""Of the gratings, rad/token: wavelengths of 21 to 4 tokens."""
DRAWN_SHARE: Final = 0.3
"""Share of B and C that stays as drawn."""
NOISE_SHARE: Final = 0.1
"""Standard deviation added to an embedding of standard deviation 1."""

Complexes = npt.NDArray[np.complex128]
Reals = npt.NDArray[np.float64]


class Gabors(NamedTuple):
    """One Gabor patch for each state, all arrays (p,).

    Attributes:
        wavenumber: Of the grating, rad/token.
        direction: In which the phase rises, rad.
        x: Of the patch's centre, tokens.
        y: Of the patch's centre, tokens.
    """

    wavenumber: Reals
    direction: Reals
    x: Reals
    y: Reals

    def at(self, x: Reals, y: Reals, radius: float) -> Complexes:
        """Return the patches' values at places of shape (n, 1), as (n, p)."""
        right, down = x - self.x, y - self.y
        envelope = np.exp(-(right**2 + down**2) / (2 * radius**2))
        along = np.cos(self.direction) * right + np.sin(self.direction) * down
        return np.asarray(envelope * np.exp(1j * self.wavenumber * along))


def with_motion_energy(
    variables: Variables,
    config: ModelConfig,
    tokenization: Tokenization,
    speed: float,
    rng: np.random.Generator,
) -> Variables:
    """Replace the embedding and the first layer's B and C.

    Features 2i and 2i + 1 become the even and the odd half of state i's patch; B
    joins them to one complex input, and C maps the state back to the two features.

    Args:
        variables: As drawn; eigenvalues and timescales are not changed.
        config: Of the network; `d_model` holds two features a state.
        tokenization: From the sensor's pixels to tokens.
        speed: A typical motion, tokens/s.
        rng: Draws directions and places.

    Raises:
        ValueError: `d_model` is below twice the first layer's states.
    """
    params: dict[str, Any] = jax.tree.map(np.asarray, variables["params"])
    ssm = params[FIRST_LAYER[0]][FIRST_LAYER[1]][FIRST_LAYER[2]][FIRST_LAYER[3]]
    states = len(ssm["log_step"])
    if config.d_model < 2 * states:
        raise ValueError(
            f"motion energy needs two features a state: d_model is {config.d_model}, "
            f"the first layer has {states} states"
        )
    per_ms = np.abs(ssm["Lambda_im"]) * np.exp(ssm["log_step"][:, 0])
    wavenumber = 1000 * per_ms.astype(np.float64) / speed
    gabors = _draw(wavenumber, tokenization, rng)
    params["encoder"]["encoder"]["embedding"] = _embedding(
        gabors, config.d_model, tokenization, rng
    )
    ssm["B"] = DRAWN_SHARE * ssm["B"] + _join(states, ssm["B"].shape)
    ssm["C"] = DRAWN_SHARE * ssm["C"] + _split(states, ssm["C"].shape)
    return {**variables, "params": jax.tree.map(jnp.asarray, params)}


def _draw(
    wavenumber: Reals, tokenization: Tokenization, rng: np.random.Generator
) -> Gabors:
    """Draw directions evenly spread, and places inside the sensor's border."""
    states = len(wavenumber)
    turns = (rng.permutation(states) + rng.random(states)) / states
    return Gabors(
        np.clip(wavenumber, *WAVENUMBERS),
        2 * np.pi * turns,
        tokenization.width * rng.uniform(0.1, 0.9, states),
        tokenization.height * rng.uniform(0.1, 0.9, states),
    )


def _embedding(
    gabors: Gabors,
    features: int,
    tokenization: Tokenization,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Return the embedding, (tokens, features), of variance 1 / features."""
    pixels = _every_token(tokenization)
    x, y = (pixels[axis][:, None] / tokenization.downsample for axis in ("x", "y"))
    radius = max(tokenization.width, tokenization.height) * 3 / 16
    values = gabors.at(x, y, radius)
    halves = np.stack([values.real, values.imag], axis=-1).reshape(len(pixels), -1)
    halves *= np.where(pixels["p"] == 1, 1.0, -1.0)[:, None]
    embedding = np.zeros((tokenization.num_tokens, features))
    tokens = tokenization.tokenize(pixels)
    embedding[tokens, : halves.shape[1]] = halves / halves.std()
    embedding += NOISE_SHARE * rng.standard_normal(embedding.shape)
    embedding /= np.sqrt(features)
    return embedding.astype(np.float32)


def _every_token(tokenization: Tokenization) -> Events:
    """Return one event in the corner of each token, at each polarity."""
    sensor, step = tokenization.sensor, tokenization.downsample
    p, y, x = np.meshgrid(
        np.arange(sensor.polarities),
        np.arange(0, sensor.height, step),
        np.arange(0, sensor.width, step),
        indexing="ij",
    )
    pixels = np.zeros(p.size, EVENT_DTYPE)
    pixels["x"], pixels["y"], pixels["p"] = x.ravel(), y.ravel(), p.ravel()
    return pixels


def _join(states: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a B, (p, h, 2), that takes feature 2i + i·(feature 2i + 1)."""
    B = np.zeros(shape, np.float32)
    state = np.arange(states)
    B[state, 2 * state, 0] = B[state, 2 * state + 1, 1] = 1.0
    return B


def _split(states: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a C, (h, p, 2), that gives Re x to feature 2i and Im x to 2i + 1."""
    C = np.zeros(shape, np.float32)
    state = np.arange(states)
    C[2 * state, state, 0], C[2 * state + 1, state, 1] = 1.0, -1.0
    return C
