"""The types of a training configuration; the values live in `conf/*.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from saccade.model import precision
from saccade.model.tokens import Scheme, TimestepConvention
from saccade.model.training.dataset import Split

Mode = Literal["batch", "streaming"]
WandbMode = Literal["online", "offline", "disabled"]


@dataclass(frozen=True)
class TokenSettings:
    """How events become tokens and integration timesteps."""

    scheme: Scheme
    downsample: int
    timestep: TimestepConvention


@dataclass(frozen=True)
class TrainingSettings:
    """Length of a run, sizes of batches and crops, and the loss.

    Attributes:
        epochs: Passes over the training samples.
        batch_events: Events in one batch, padding included: a batch of
            crops of n events holds batch_events / n samples.
        crop_events: Lengths of the random crops; each batch draws one, so
            their number is the number of compiled shapes. Multiples of the tick.
        label_smoothing: Share of the target spread evenly over the classes.
        motion_speed: Initialize the first layer as detectors of motion at this speed,
            tokens/s; 0 draws all parameters at random.
        ema_decay: Of the averaged weights that are validated and saved; 0 averages
            nothing.
        validate_every: Epochs between validations; the last always has one.
        patience: Validations without a better one after which the run ends; 0 is no
            limit.
        precision: Of the factors of matrix products. Sums over time, rows and steps are
            float32 in either case, and so are saved weights.
    """

    epochs: int
    batch_events: int
    crop_events: list[int]
    label_smoothing: float
    motion_speed: float
    ema_decay: float
    validate_every: int
    patience: int
    precision: precision.PrecisionName


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW, with a separate learning rate for the state matrices.

    Attributes:
        lr: Peak learning rate of the regular parameters.
        ssm_lr: Peak learning rate of `B`, `Lambda_re` and `Lambda_im`.
        weight_decay: Of the regular parameters only.
        warmup_share: Share of all steps in which the learning rate rises.
        final_share: Final learning rate, as a share of the peak.
        clip_norm: Maximum norm of the whole gradient; 0 is no limit.
        b2: Adam's decay of squared gradients.
        accumulate: Number of batches that one step averages gradients over.
    """

    lr: float
    ssm_lr: float
    weight_decay: float
    warmup_share: float
    final_share: float
    clip_norm: float
    b2: float
    accumulate: int


@dataclass(frozen=True)
class AugmentationSettings:
    """Strength of each augmentation; 0 leaves it out.

    Attributes:
        drop_events: Largest share of events dropped at random.
        drop_time: Longest gap cut out, as a share of the recording.
        drop_area: Largest blanked square, as a share of the sensor's area.
        shift_pixels: Largest shift along each axis.
        rotate_degrees: Largest rotation about the centre, either way.
        scale: Largest change of size: 0.2 is 1/1.2 to 1.2.
        shear: Largest shear, a share of the height.
        stretch_time: Largest change of speed: 0.2 is 1/1.2 to 1.2.
        jitter_us: Standard deviation of each timestamp's noise.
        jitter_pixels: Standard deviation of each position's noise.
        noise: Largest number of random events added, a share of the real ones.
        flip_polarity: Probability of swapping brighter and darker.
        mix: Probability that the rest of a sample comes from another one.
    """

    drop_events: float
    drop_time: float
    drop_area: float
    shift_pixels: float
    rotate_degrees: float
    scale: float
    shear: float
    stretch_time: float
    jitter_us: float
    jitter_pixels: float
    noise: float
    flip_polarity: float
    mix: float


@dataclass(frozen=True)
class SystemSettings:
    """Processes and devices of the machine.

    Attributes:
        workers: Processes that simulate; 0 simulates in this process, null is one a
            core.
        loaders: Processes that draw batches; 0 draws in a thread of this process. The
            batches are the same.
        prefetch_batches: Batches drawn ahead of the device, by each loader.
        devices: Devices of this host that share a batch's rows; null is all, on a CPU
            one a core. The result is the same but for rounding.
        coordinator: Address and port of the first of several processes; null for one
            process.
        processes: Number of processes.
        process: Index of this process, from 0.
    """

    workers: int | None
    loaders: int
    prefetch_batches: int
    devices: int | None
    coordinator: str | None
    processes: int
    process: int


@dataclass(frozen=True)
class LoggingSettings:
    """Where and how often a run reports.

    Attributes:
        every_steps: Steps between two reports of training metrics.
        progress: Whether to draw a progress bar.
    """

    every_steps: int
    progress: bool


@dataclass(frozen=True)
class WandbSettings:
    """Reports to Weights & Biases too, beside the run's folder.

    Attributes:
        every_steps: As in `LoggingSettings`.
        progress: As in `LoggingSettings`.
        mode: online sends metrics at once; offline keeps them in the run's folder
            for `wandb sync`; disabled does neither.
        project: The project of the run.
        entity: The project's user or team; null is the account itself.
        group: The run's group in the project.
        tags: The run's tags.
    """

    every_steps: int
    progress: bool
    mode: WandbMode
    project: str
    entity: str | None
    group: str | None
    tags: list[str]


@dataclass(frozen=True)
class Settings:
    """One resolved configuration.

    Attributes:
        resume: Folder of the run to resume; null begins a new one.
        task: The task's own settings; `name` picks the task.
        model: Settings of `model.config.ModelConfig`; the task adds the
            vocabulary and the number of classes.
    """

    seed: int
    data_dir: str | None
    output_dir: str
    resume: str | None
    tokens: TokenSettings
    training: TrainingSettings
    optimizer: OptimizerSettings
    augmentation: AugmentationSettings
    system: SystemSettings
    logging: LoggingSettings | WandbSettings
    task: dict[str, Any]
    model: dict[str, Any]


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """A configuration, and the evaluation to make with it.

    Attributes:
        checkpoint: A checkpoint's folder, a run's folder, or a released name.
        split: The samples to score.
        mode: batch scores whole recordings; streaming advances tick by tick, to the
            same scores, and also gives the scores over time.
        figures: Folder for the figures and the result as JSON; null writes none.
    """

    checkpoint: str
    split: Split
    mode: Mode
    figures: str | None
