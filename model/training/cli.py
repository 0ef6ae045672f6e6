"""`saccade train` and `saccade evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import checkpoints
from model.checkpoint import Checkpoint, CheckpointError, load
from model.classifier import Variables
from model.events.errors import EventsError
from model.training.batches import evaluation_batches
from model.training.composition import Root, as_yaml, resolve
from model.training.display import Display
from model.training.errors import InvalidSetting, TrainingError, UnknownSetting
from model.training.evaluate import Score, evaluate as measure_all
from model.training.experiment import Experiment, encoder, experiment, task_of
from model.training.interruption import interruptible
from model.training.learner import make_measure
from model.training.loop import Data, Outcome, Progress, Run, Save
from model.training.provenance import provenance
from model.training.release import release
from model.training.run_folder import RunFolder
from model.training.settings import EvaluationSettings
from model.training.typed import build

INTERRUPTED: Final = 130
FAILED: Final = 1
MISUSED: Final = 2

USAGE: Final[Mapping[Root, str]] = {
    "config": """\
usage: saccade train task=TASK [KEY=VALUE ...] [--cfg job]

  saccade train task=motions
  saccade train task=nmnist data_dir=FOLDER
  saccade train task=spiking-heidelberg-digits data_dir=FOLDER model=shd/tiny
  saccade train task=nmnist data_dir=FOLDER training.epochs=5 model.d_model=32

The run goes to outputs/TASK/DATE-TIME; its best checkpoint is the folder `best`.
--cfg job prints the resolved configuration: every key there can be set.
""",
    "evaluate": """\
usage: saccade evaluate checkpoint=PATH task=TASK [KEY=VALUE ...] [--json] [--cfg job]

  saccade evaluate checkpoint=outputs/motions/DATE-TIME task=motions
  saccade evaluate checkpoint=nmnist task=nmnist data_dir=FOLDER split=test --json

checkpoint is a checkpoint's folder, a run's folder, or a released model's name;
split is train, validation or test.
""",
}


def train(argv: Sequence[str]) -> int:
    """Run `saccade train` and return its exit status."""
    return _guarded("config", argv, _train)


def evaluate(argv: Sequence[str]) -> int:
    """Run `saccade evaluate` and return its exit status."""
    return _guarded("evaluate", argv, _evaluate)


Command = Callable[[dict[str, Any], Sequence[str]], int]


def _guarded(root: Root, argv: Sequence[str], command: Command) -> int:
    """Resolve the configuration, then run; a known error becomes one kind sentence."""
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(USAGE[root])
        return 0
    words = [word for word in argv if not word.startswith("-")]
    flags = [word for word in argv if word.startswith("-")]
    try:
        _check_flags(root, flags)
        if "--cfg" in flags:
            words.remove("job")
            sys.stdout.write(as_yaml(resolve(root, words)))
            return 0
        return command(resolve(root, words), argv)
    except (InvalidSetting, UnknownSetting) as error:
        sys.stderr.write(f"saccade: {error}\n")
        return MISUSED
    except (TrainingError, CheckpointError, EventsError, OSError) as error:
        sys.stderr.write(f"saccade: {error}\n")
        return FAILED


def _check_flags(root: Root, flags: Sequence[str]) -> None:
    known = ["--cfg", "--help"] + (["--json"] if root == "evaluate" else [])
    for flag in flags:
        if flag not in known:
            raise UnknownSetting("option", flag, known)


def _train(values: dict[str, Any], argv: Sequence[str]) -> int:
    wanted = experiment(values)
    display = Display.on_terminal(bar=wanted.settings.logging.progress)
    display.say(f"preparing {wanted.task.name}")
    data = Data(wanted.task.load("train"), wanted.task.load("validation"))
    folder = RunFolder.create(
        Path(wanted.settings.output_dir), wanted.task.name, values
    )
    display.say(f"run folder: {folder.path}")
    with interruptible() as interruption, display:
        run = Run(wanted, data, folder, display, interruption)
        outcome = run.train(_saver(wanted, data, argv))
    sys.stdout.write(_farewell(outcome))
    return INTERRUPTED if outcome.interrupted else 0


def _saver(wanted: Experiment, data: Data, argv: Sequence[str]) -> Save:
    """Return what saves a checkpoint; its canary is of the first validation sample."""
    origin = provenance("train", argv)
    samples = data.validation if len(data.validation.events) else data.train
    sample = samples.events[0]

    def save(path: Path, variables: Variables, progress: Progress) -> None:
        release(path, wanted, variables, progress, origin, sample)

    return save


def _farewell(outcome: Outcome) -> str:
    lines = [f"checkpoint: {outcome.checkpoint}"]
    if outcome.progress.validation is not None:
        lines.insert(0, f"best validation: {outcome.progress.validation}")
    if outcome.interrupted:
        lines.insert(0, f"stopped after {outcome.progress.epochs} whole epochs")
    return "\n".join(lines) + "\n"


def _evaluate(values: dict[str, Any], argv: Sequence[str]) -> int:
    settings = build(EvaluationSettings, values)
    checkpoint = load(locate(settings.checkpoint))
    result = _measure(settings, checkpoint)
    text = result.to_json() if "--json" in argv else f"{settings.split}: {result}"
    sys.stdout.write(text + "\n")
    return 0


def _measure(settings: EvaluationSettings, checkpoint: Checkpoint) -> Score:
    manifest, task = checkpoint.manifest, task_of(settings)
    if manifest.labels != task.labels or manifest.tokenization.sensor != task.sensor:
        raise InvalidSetting(
            "task",
            f"the checkpoint knows {manifest.tokenization.sensor} pixels and the "
            f"classes {', '.join(manifest.labels)}; task {task.name} has "
            f"{task.sensor} pixels and {', '.join(task.labels)}",
        )
    batches = evaluation_batches(
        task.load(settings.split),
        len(task.labels),
        settings.training.batch_events,
        manifest.config.tick_events,
        encoder(manifest.tokenization, manifest.timestep),
    )
    measure = make_measure(manifest.config)
    return measure_all(measure, checkpoint.variables, batches)


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
