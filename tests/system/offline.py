"""What a released model says of a recording, without any server."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from saccade.model.checkpoint import Checkpoint, load
from saccade.model.classifier import scan
from saccade.model.events.fit import fit
from saccade.model.events.simulator.camera import DEFAULT_SENSOR, simulate
from saccade.model.events.types import Events
from saccade.model.tokens import Tokenizer

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
RELEASED = sorted(path.parent.name for path in CHECKPOINTS.glob("*/manifest.json"))
TOLERANCE = 1e-4
SCAN = jax.jit(scan, static_argnums=0)

Scores = npt.NDArray[np.float64]


@cache
def released(name: str) -> Checkpoint:
    return load(CHECKPOINTS / name)


def filmed(name: str, motion: str = "clockwise", *, ms: int = 200) -> Events:
    """Return a simulated recording of the sensor that a released model knows."""
    events = simulate(motion, seed=1, duration_us=1000 * ms)
    sensor = released(name).manifest.tokenization.sensor
    return fit(events, DEFAULT_SENSOR, sensor, "scale")


def scanned(name: str, events: Events) -> Scores:
    manifest, variables = released(name).manifest, released(name).variables
    chunk = Tokenizer(manifest.tokenization, manifest.timestep).feed(events)
    logits = SCAN(
        manifest.config, variables, jnp.array(chunk.tokens), jnp.array(chunk.dt_ms)
    )
    return np.asarray(logits, np.float64)


def deviation(
    found: list[float] | Scores | None, expected: list[float] | Scores
) -> float:
    """Return the largest error, relative to the largest score."""
    assert found is not None, "too few events for a tick"
    expected = np.asarray(expected)
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())
