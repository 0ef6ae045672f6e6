"""From trained weights to a checkpoint that a server will believe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jax.numpy as jnp
import numpy as np

from saccade.model.checkpoint import save
from saccade.model.classifier import Variables
from saccade.model.events.types import Events
from saccade.model.manifest import Canary, Manifest
from saccade.model.training.experiment import Experiment
from saccade.model.training.loop import Progress
from saccade.model.training.train_state import make_predict

CANARY_TICKS: Final = 3


def release(
    path: Path,
    experiment: Experiment,
    variables: Variables,
    progress: Progress,
    origin: Mapping[str, Any],
    sample: Events,
) -> Manifest:
    """Save weights with the manifest that describes them.

    Args:
        path: The checkpoint's folder; one that is there is replaced.
        experiment: What was trained.
        variables: The weights.
        progress: How far training had come.
        origin: Command, code and packages (`provenance.provenance`).
        sample: A recording that the canary is made from.
    """
    manifest = Manifest(
        name=experiment.task.name,
        labels=experiment.task.labels,
        config=experiment.config,
        tokenization=experiment.tokenization,
        timestep=experiment.timestep,
        canary=canary(experiment, variables, sample),
        provenance={
            **origin,
            "task": experiment.settings.task,
            "data": experiment.task.source,
            "seed": experiment.settings.seed,
            "training_samples": progress.samples,
            "epochs": progress.epochs,
            "wall_s": round(progress.wall_s, 1),
        },
        metrics=_metrics(progress),
    )
    return save(path, manifest, variables)


def canary(experiment: Experiment, variables: Variables, sample: Events) -> Canary:
    """Return a few ticks of a recording and the scores after them.

    A recording of fewer events is repeated: what counts is that every build of the
    model answers the same.
    """
    length = CANARY_TICKS * experiment.config.tick_events
    tokens, dt_ms = experiment.encode(sample)
    tokens, dt_ms = np.resize(tokens, length), np.resize(dt_ms, length)
    logits = make_predict(experiment.config)(
        variables,
        jnp.asarray(tokens)[None],
        jnp.asarray(dt_ms)[None],
        jnp.array([length]),
    )
    return Canary(
        tokens=tuple(tokens.tolist()),
        dt_ms=tuple(dt_ms.tolist()),
        logits=tuple(np.asarray(logits[0]).tolist()),
    )


def _metrics(progress: Progress) -> dict[str, Any]:
    if progress.validation is None:
        return {}
    result = progress.validation
    return {
        "validation": {
            "accuracy": result.accuracy,
            "samples": result.samples,
            "ci95": list(result.ci95),
            "loss": result.loss,
        }
    }
