"""A first embedding in which neighbouring pixels are alike.

Drawn independently, pixels have to learn from data which of them are neighbours
before anything can be learned of motion: on scenes that fill a sensor, that takes
more epochs than all the rest.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from model.classifier import Variables
from model.events.types import EVENT_DTYPE, Events
from model.tokens import Tokenization


def smooth_embedding(
    tokenization: Tokenization,
    features: int,
    length_tokens: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Draw an embedding whose features vary smoothly over the sensor.

    Each feature is one grating of random direction, wavelength and phase; the two
    polarities see it at two phases. Over many features, two tokens d apart are
    correlated by exp(-d²/2 length²).

    Args:
        tokenization: Where on the sensor each token lies.
        features: Of the embedding.
        length_tokens: Over what distance pixels stay alike, tokens.
        rng: Where the gratings come from.

    Returns:
        The embedding, (tokens, features), of variance 1 / features as Linen's own.
    """
    pixels = _every_pixel(tokenization)
    waves = rng.normal(0.0, 1.0 / length_tokens, size=(2, features))
    phases = rng.uniform(0.0, 2 * np.pi, size=(2, features))
    place = np.stack([pixels["x"], pixels["y"]], axis=1) / tokenization.downsample
    values = np.cos(place @ waves + phases[pixels["p"]]) * np.sqrt(2 / features)
    embedding = np.zeros((tokenization.num_tokens, features), np.float32)
    embedding[tokenization.tokenize(pixels)] = values
    return embedding


def with_embedding(
    variables: Variables, embedding: npt.NDArray[np.float32]
) -> Variables:
    """Return the variables with another embedding."""
    params: dict[str, Any] = variables["params"]
    encoder = {**params["encoder"], "encoder": {"embedding": jnp.asarray(embedding)}}
    return {**variables, "params": {**params, "encoder": encoder}}


def _every_pixel(tokenization: Tokenization) -> Events:
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
