"""The commands `saccade train` and `saccade evaluate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from saccade.model.checkpoint import CheckpointError
from saccade.model.classifier import Variables
from saccade.model.events.errors import EventsError
from saccade.model.training.checkpointing import saving
from saccade.model.training.config import Root, as_yaml, load_saved, resolve
from saccade.model.training.devices import is_first, set_up_devices
from saccade.model.training.errors import InvalidSetting, TrainingError, UnknownSetting
from saccade.model.training.evaluate_command import evaluate_checkpoint
from saccade.model.training.experiment import Experiment, make_experiment
from saccade.model.training.figures import write_curves, write_figures
from saccade.model.training.loggers import choose_logger
from saccade.model.training.loop import (
    Data,
    Run,
    RunResult,
    SaveCheckpoint,
    TrainingProgress,
    interruptible,
)
from saccade.model.training.progress import Display
from saccade.model.training.release import release
from saccade.model.training.run_folder import RunFolder, provenance
from saccade.model.training.settings import EvaluationSettings
from saccade.model.training.typed import build

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

  saccade train resume=outputs/nmnist/DATE-TIME

The run goes to outputs/TASK/DATE-TIME; its best checkpoint is the folder `best`.
resume goes on with a run that was stopped, as if it had not been. Each of
several processes names its place again: system.coordinator, .processes and .process.
--cfg job prints the resolved configuration: every key there can be set.
""",
    "evaluate": """\
usage: saccade evaluate checkpoint=PATH task=TASK [KEY=VALUE ...] [--json] [--cfg job]

  saccade evaluate checkpoint=outputs/motions/DATE-TIME task=motions
  saccade evaluate checkpoint=nmnist task=nmnist data_dir=FOLDER split=test --json
  saccade evaluate checkpoint=motions task=motions mode=streaming figures=FOLDER

checkpoint is a checkpoint's folder, a run's folder, or a released model's name;
split is train, validation or test. mode=streaming feeds tick by tick and reports after
how many ms the answer was final; figures=FOLDER draws the confusion matrix and the
confidence over time.
""",
}


def train(argv: Sequence[str]) -> int:
    """Run `saccade train` and return its exit status."""
    return _run("config", argv, _train)


def evaluate(argv: Sequence[str]) -> int:
    """Run `saccade evaluate` and return its exit status."""
    return _run("evaluate", argv, _evaluate)


Command = Callable[[dict[str, Any], Sequence[str]], int]


def _run(root: Root, argv: Sequence[str], command: Command) -> int:
    """Resolve the configuration and run the command; print known errors as one line."""
    if {"-h", "--help"} & set(argv):
        sys.stdout.write(USAGE[root])
        return 0
    words = [word for word in argv if not word.startswith("-")]
    flags = [word for word in argv if word.startswith("-")]
    try:
        _check_flags(root, flags)
        if "--cfg" in flags:
            words.remove("job")
            sys.stdout.write(as_yaml(_resolved(root, words)))
            return 0
        return command(_resolved(root, words), argv)
    except (InvalidSetting, UnknownSetting) as error:
        sys.stderr.write(f"saccade: {error}\n")
        return MISUSED
    except (TrainingError, CheckpointError, EventsError, OSError) as error:
        sys.stderr.write(f"saccade: {error}\n")
        return FAILED


def _resolved(root: Root, words: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration, or read that of the run to resume."""
    resumed = [word for word in words if word.startswith("resume=")]
    if root == "evaluate" or not resumed:
        return resolve(root, words)
    folder = Path(resumed[-1].removeprefix("resume="))
    return load_saved(folder, [word for word in words if word not in resumed])


def _check_flags(root: Root, flags: Sequence[str]) -> None:
    known = ["--cfg", "--help"] + (["--json"] if root == "evaluate" else [])
    for flag in flags:
        if flag not in known:
            raise UnknownSetting("option", flag, known)


def _train(values: dict[str, Any], argv: Sequence[str]) -> int:
    experiment = make_experiment(values)
    set_up_devices(experiment.settings.system)
    open_logger = choose_logger(experiment.settings.logging)
    display = Display.on_terminal(
        bar=experiment.settings.logging.progress and is_first()
    )
    display.write(f"preparing {experiment.task.name}")
    data = Data(experiment.task.load("train"), experiment.task.load("validation"))
    with _folder(experiment, values, provenance("train", argv)) as (folder, origin):
        if is_first():
            display.write(f"run folder: {folder.path}")
        with (
            open_logger(folder, values, origin) as logger,
            interruptible() as interruption,
            display,
        ):
            run = Run(experiment, data, folder, logger, display, interruption)
            result = run.train(_saver(experiment, data, origin))
        write_curves(folder)
    if is_first():  # the folders of the others are gone
        sys.stdout.write(_summary(result, folder))
    return INTERRUPTED if result.interrupted else 0


@contextmanager
def _folder(
    experiment: Experiment, values: dict[str, Any], origin: dict[str, Any]
) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
    """Yield the run's folder, and the origin that its checkpoints record.

    A resumed run keeps the origin of the process that began it, which reproduces it;
    the processes that resumed it are listed beside it. Processes after the first write
    to a temporary folder.
    """
    settings = experiment.settings
    resumed = None if settings.resume is None else Path(settings.resume)
    if not is_first():
        with RunFolder.temporary(resumed) as folder:
            yield folder, origin
    elif resumed is not None:
        folder = RunFolder(resumed)
        yield folder, folder.record_resumption(origin)
    else:
        output_dir, name = Path(settings.output_dir), experiment.task.name
        yield RunFolder.create(output_dir, name, values, origin), origin


def _saver(
    experiment: Experiment, data: Data, origin: dict[str, Any]
) -> SaveCheckpoint:
    """Return the function that saves a checkpoint, in the first process alone.

    The canary comes from the first validation sample; see `SavedStates.save` for why
    other processes save nothing.
    """
    samples = data.validation if len(data.validation.events) else data.train
    sample = samples.events[0]

    def save(path: Path, variables: Variables, progress: TrainingProgress) -> None:
        if not is_first():
            return
        with saving(path):
            release(path, experiment, variables, progress, origin, sample)

    return save


def _summary(result: RunResult, folder: RunFolder) -> str:
    lines = [f"checkpoint: {result.checkpoint}"]
    if result.progress.validation is not None:
        lines.insert(0, f"best validation: {result.progress.validation}")
    if result.interrupted:
        lines.insert(0, f"stopped after {result.progress.epochs} whole epochs")
        lines.append(f"to go on: saccade train resume={folder.path}")
    return "\n".join(lines) + "\n"


def _evaluate(values: dict[str, Any], argv: Sequence[str]) -> int:
    settings = build(EvaluationSettings, values)
    evaluation = evaluate_checkpoint(settings)
    if settings.figures is not None:
        write_figures(Path(settings.figures), evaluation)
    text = json.dumps(evaluation.to_dict()) if "--json" in argv else str(evaluation)
    sys.stdout.write(text + "\n")
    return 0
