"""The work of `saccade evaluate`: score a checkpoint on one split of a task."""

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
    Evaluation,
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


def evaluate_checkpoint(settings: EvaluationSettings) -> Evaluation:
    """Score a checkpoint on one split of a task.

    Raises:
        InvalidSetting: The checkpoint is of another task.
        EmptySplit: The split has no samples.
        CheckpointError: The checkpoint cannot be used.
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
    return Evaluation(
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
    """Return a checkpoint's folder from its path, its run's, or a released name."""
    path = Path(checkpoint)
    released = Path(str(checkpoints.__file__)).parent / checkpoint
    places = [path / "best", path / "last", path]
    if path.name == checkpoint:
        places.append(released)
    for place in places:
        if (place / "manifest.json").is_file():
            return place
    return path
