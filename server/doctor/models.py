"""Checks of what runs models: devices, compilers, checkpoints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

from saccade.server.device_memory import needed_bytes
from saccade.server.devices import (
    Choice,
    DriverFault,
    Gpu,
    NoDevice,
    choose,
    list_gpus,
    variables,
)
from saccade.server.doctor import trial
from saccade.server.doctor.findings import Finding, Subject

TRIAL_S: Final = 180.0
"""Within which everything is tried, large checkpoints on a slow disk included."""

TAIL_CHARACTERS: Final = 300
OLDEST_CUDA: Final = 12


def check_models(subject: Subject) -> Iterator[Finding]:
    """Choose the devices as a server does; try them, the compilers and checkpoints."""
    if not subject.settings.folders:
        remedy = "name one with --model PATH"
        yield Finding("checkpoints", "fault", "there is no checkpoint to serve", remedy)
    if find_spec("jax") is None:
        text = "JAX is not installed: nothing runs models here, and none was read"
        yield Finding("device", "fault", text, "pip install 'saccade[server]'")
        yield from _check_manifests(subject)
        return
    try:
        choice = choose(subject.settings.device, subject.environment)
    except NoDevice as error:
        text = f"there is no {error.asked} to run on: {error.reason}"
        yield Finding("device", "fault", text, error.remedy)
        yield from _check_manifests(subject)
        return
    yield from _judge_choice(subject, choice)
    yield from _try(subject, choice)


def _check_manifests(subject: Subject) -> Iterator[Finding]:
    """Read the checkpoints' manifests, where weights cannot be read."""
    for folder in subject.settings.folders:
        try:
            name = json.loads((folder / "manifest.json").read_text("utf-8"))["name"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = f"{folder} has no manifest that can be read: {error}"
            yield Finding("checkpoints", "fault", text, "name a checkpoint's folder")
            continue
        text = f"{name} has a manifest; its weights were not tried"
        yield Finding("checkpoints", "warning", text, "see what `device` says")


def _judge_choice(subject: Subject, choice: Choice) -> Iterator[Finding]:
    """Say what an operator should see to about the devices that are chosen."""
    if choice.warning:
        remedy = "check nvidia-smi, and in a container --gpus all"
        text = f"{choice.devices} runs the models: {choice.reason}"
        yield Finding("device", "warning", text, remedy)
    elif choice.devices.platform == "cpu" and not choice.gpus:
        yield from judge_unused(str(subject.settings.device), _driver_gpus())
    if choice.devices.platform == "cuda":
        needed = needed_bytes(subject.settings)
        small = [gpu for gpu in choice.gpus if gpu.memory_bytes < needed]
        for gpu in small:
            text = f"{gpu.name} has {gpu.memory_bytes >> 20} MiB; the server takes "
            text += f"{needed >> 20} MiB"
            yield Finding("device", "warning", text, "lower --slots, or --buckets")


def judge_unused(asked: str, gpus: Iterable[Gpu]) -> Iterator[Finding]:
    """Return the finding for GPUs that the driver lists and JAX does not use.

    Args:
        asked: The setting `device`.
        gpus: Those that the driver lists.
    """
    names = sorted({gpu.name for gpu in gpus})
    if asked == "auto" and names:
        text = f"the driver lists {', '.join(names)}, and the CPU runs the models: "
        text += "JAX's plugin for CUDA is not installed"
        remedy = "pip install 'saccade[cuda13]' (or cuda12), or say --device cpu"
        yield Finding("device", "warning", text, remedy)


def _driver_gpus() -> tuple[Gpu, ...]:
    try:
        return list_gpus(OLDEST_CUDA)
    except DriverFault:
        return ()


def _try(subject: Subject, choice: Choice) -> Iterator[Finding]:
    """Try devices, compilers and checkpoints in a process of its own."""
    settings = subject.settings
    native = settings.execution == "fastest" and choice.devices.platform == "cpu"
    order = trial.Order(
        choice.devices.platform,
        list(choice.devices.indices),
        native,
        [str(folder.absolute()) for folder in settings.folders],
        sorted(settings.precisions),
    )
    needed = needed_bytes(settings)
    environment = dict(subject.environment)
    environment |= variables(choice, environment, needed)
    yield from run_trial(json.dumps(order), environment)


def run_trial(
    order: str, environment: Mapping[str, str], within_s: float = TRIAL_S
) -> Iterator[Finding]:
    """Run the process that tries; yield what it finds, and how it ended if badly.

    Args:
        order: A `trial.Order` as JSON.
        environment: The process's variables.
        within_s: How long it may take, s.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; "
    program += f"from {trial.__name__} import main; main(sys.argv[1])"
    command = [sys.executable, "-c", program, order]
    with tempfile.TemporaryFile() as report, tempfile.TemporaryFile() as log:
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=report, stderr=log,
                env=environment, timeout=within_s, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            ended = None
        report.seek(0)
        lines = [json.loads(line) for line in report.read().splitlines()]
        log.seek(0)
        said = log.read().decode(errors="replace").strip()
    yield from (Finding(*line["finding"]) for line in lines if "finding" in line)
    if ended != 0:
        yield _ended_badly(lines, ended, said, within_s)


def _ended_badly(
    lines: list[dict[str, Any]], ended: int | None, said: str, within_s: float
) -> Finding:
    steps = [line["step"] for line in lines if "step" in line]
    step = steps[-1] if steps else "device"
    if ended is None:
        text = f"the process that tried this took longer than {within_s:g} s"
    elif ended < 0:
        name = signal.Signals(-ended).name
        text = f"the process that tried this was ended by {name}"
    else:
        last = said.splitlines()[-1] if said else f"status {ended}"
        text = f"the process that tried this failed: {last[:TAIL_CHARACTERS]}"
    remedy = "reinstall the server's packages: pip install --force-reinstall "
    remedy += "'saccade[server]' -c constraints.txt; for SIGKILL, see the memory"
    return Finding(step, "fault", text, remedy)
