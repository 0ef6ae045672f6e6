"""What `saccade evaluate` does: a checkpoint, a task's split, an assessment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from saccade import checkpoints
from saccade.model.checkpoint import load
from saccade.model.manifest import Manifest
from saccade.model.training.dataset import Task
from saccade.model.training.errors import EmptySplit, InvalidSetting
from saccade.model.training.evaluation import (
    Assessment,
    Predictor,
    predict_streams,
    predict_whole,
)
from saccade.model.training.experiment import encoder, task_of
from saccade.model.training.input_pipeline import evaluation_batches
from saccade.model.training.settings import EvaluationSettings, Mode

PREDICTORS: Final[Mapping[Mode, Predictor]] = {
    "batch": predict_whole,
    "streaming": predict_streams,
}


def assess(settings: EvaluationSettings) -> Assessment:
    """Measure a checkpoint on one split of a task.

    Raises:
        InvalidSetting: The checkpoint is not of this task.
        EmptySplit: There is nothing to measure it on.
        CheckpointError: It cannot be used.
    """
    checkpoint = load(locate(settings.checkpoint))
    manifest, task = checkpoint.manifest, task_of(settings)
    _check_task(manifest, task)
    samples = task.load(settings.split)
    if not len(samples.events):
        raise EmptySplit(task.name, settings.split)
    batches = evaluation_batches(
        samples,
        len(task.labels),
        settings.training.batch_events,
        manifest.config.tick_events,
        encoder(manifest.tokenization, manifest.timestep),
    )
    predict = PREDICTORS[settings.mode]
    predictions = predict(manifest.config, checkpoint.variables, batches)
    return Assessment(
        settings.split,
        settings.mode,
        manifest.labels,
        predictions,
        manifest.content_hash,
    )


def _check_task(manifest: Manifest, task: Task) -> None:
    if manifest.labels != task.labels or manifest.tokenization.sensor != task.sensor:
        raise InvalidSetting(
            "task",
            f"the checkpoint knows {manifest.tokenization.sensor} pixels and the "
            f"classes {', '.join(manifest.labels)}; task {task.name} has "
            f"{task.sensor} pixels and {', '.join(task.labels)}",
        )


def locate(checkpoint: str) -> Path:
    """Return the folder of a checkpoint given by its path, its run or its name."""
    path = Path(checkpoint)
    released = Path(str(checkpoints.__file__)).parent / checkpoint
    places = [path / "best", path / "last", path]
    if path.name == checkpoint:
        places.append(released)
    for place in places:
        if (place / "manifest.json").is_file():
            return place
    return path
