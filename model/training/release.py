"""A run's checkpoint: trained weights with the manifest that describes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saccade.model.checkpoint import save
from saccade.model.classifier import Variables
from saccade.model.events.types import Events
from saccade.model.manifest import CANARY_TICKS, Manifest, make_canary
from saccade.model.training.experiment import Experiment
from saccade.model.training.loop import TrainingProgress


def release(
    path: Path,
    experiment: Experiment,
    variables: Variables,
    progress: TrainingProgress,
    origin: Mapping[str, Any],
    sample: Events,
) -> Manifest:
    """Save weights with the manifest that describes them.

    Args:
        path: The checkpoint's folder; an existing one is replaced.
        experiment: What was trained.
        variables: The weights.
        progress: Of the run that trained them.
        origin: Command, code and packages (`run_folder.provenance`).
        sample: A recording for the canary; a short one is repeated to CANARY_TICKS.
    """
    tokens, dt_ms = experiment.encode(sample)
    length = CANARY_TICKS * experiment.config.tick_events
    tokens, dt_ms = np.resize(tokens, length), np.resize(dt_ms, length)
    validation = progress.validation
    manifest = Manifest(
        name=experiment.task.name,
        labels=experiment.task.labels,
        config=experiment.config,
        tokenization=experiment.tokenization,
        timestep=experiment.timestep,
        canary=make_canary(experiment.config, variables, tokens, dt_ms),
        provenance={
            **origin,
            "task": experiment.settings.task,
            "data": experiment.task.source,
            "seed": experiment.settings.seed,
            "training_samples": progress.samples,
            "epochs": progress.epochs,
            "wall_s": round(progress.wall_s, 1),
        },
        metrics={} if validation is None else {"validation": validation.to_dict()},
    )
    return save(path, manifest, variables)
