"""An experiment: task, network, tokenization and settings of one configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from saccade.model.classifier import Classifier, Variables, initialize
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events
from saccade.model.precision import PRECISIONS
from saccade.model.tokens import TimestepConvention, Tokenization, Tokenizer
from saccade.model.training.dataset import Task
from saccade.model.training.errors import InvalidSetting
from saccade.model.training.input_pipeline import Encode
from saccade.model.training.motion_energy import with_motion_energy
from saccade.model.training.schedule import Plan
from saccade.model.training.settings import Settings, TokenSettings
from saccade.model.training.tasks import build_task
from saccade.model.training.typed import build


@dataclass(frozen=True)
class Experiment:
    """The parts of a run that its checkpoints describe."""

    settings: Settings
    task: Task
    config: ModelConfig
    tokenization: Tokenization
    timestep: TimestepConvention

    @property
    def encode(self) -> Encode:
        """The function from events to tokens and timesteps."""
        return encoder(self.tokenization, self.timestep)

    @property
    def classifier(self) -> Classifier:
        """The network, in its training precision."""
        return Classifier(self.config, PRECISIONS[self.settings.training.precision])

    @property
    def plan(self) -> Plan:
        """The sizes of training batches."""
        training = self.settings.training
        return Plan(training.crop_events, training.batch_events)

    def variables(self) -> Variables:
        """Draw the initial variables.

        Raises:
            InvalidSetting: `model.d_model` is too small for motion detectors.
        """
        seed, speed = self.settings.seed, self.settings.training.motion_speed
        drawn = initialize(self.config, jax.random.key(seed))
        if speed == 0.0:
            return drawn
        rng = np.random.default_rng(seed)
        try:
            return with_motion_energy(drawn, self.config, self.tokenization, speed, rng)
        except ValueError as error:
            raise InvalidSetting("training.motion_speed", str(error)) from None


def make_experiment(values: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a resolved configuration.

    Raises:
        UnknownSetting: A key is not known.
        InvalidSetting: A value is missing, of the wrong type or out of range.
    """
    settings = build(Settings, values)
    task = task_of(settings)
    tokenization = _tokenization(settings.tokens, task.sensor)
    sizes = {
        "num_embeddings": tokenization.num_tokens,
        "num_classes": len(task.labels),
    }
    try:
        config = build(ModelConfig, {**settings.model, **sizes}, "model.")
    except ValueError as error:
        raise InvalidSetting("model", str(error)) from None
    _check_crops(settings.training.crop_events, config.tick_events)
    if settings.optimizer.accumulate < 1:
        raise InvalidSetting("optimizer.accumulate", "it must be at least 1")
    return Experiment(settings, task, config, tokenization, settings.tokens.timestep)


def task_of(settings: Settings) -> Task:
    """Return the task that a configuration names."""
    data_dir = None if settings.data_dir is None else Path(settings.data_dir)
    return build_task(settings.task, data_dir, settings.system)


def _tokenization(settings: TokenSettings, sensor: Sensor) -> Tokenization:
    try:
        return Tokenization(settings.scheme, sensor, settings.downsample)
    except ValueError as error:
        raise InvalidSetting("tokens", str(error)) from None


def encoder(tokenization: Tokenization, timestep: TimestepConvention) -> Encode:
    """Return the function from a whole recording to tokens and timesteps."""
    return partial(_encode, tokenization, timestep)


def _encode(
    tokenization: Tokenization, timestep: TimestepConvention, events: Events
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    chunk = Tokenizer(tokenization, timestep).feed(events)
    return chunk.tokens, chunk.dt_ms


def _check_crops(crops: list[int], tick_events: int) -> None:
    if not crops:
        raise InvalidSetting("training.crop_events", "it holds no length")
    for length in crops:
        if length < tick_events or length % tick_events:
            raise InvalidSetting(
                "training.crop_events",
                f"{length} is no multiple of the tick's {tick_events} events",
            )
