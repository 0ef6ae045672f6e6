"""The training tasks: one module each, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from saccade.model.training.dataset import Task
from saccade.model.training.errors import UnknownSetting
from saccade.model.training.settings import SystemSettings
from saccade.model.training.tasks import dvs_gesture, folder, motions, nmnist, spiking

Builder = Callable[[Mapping[str, Any], Path | None, SystemSettings], Task]
TASKS: Final[Mapping[str, Builder]] = {
    "dvs-gesture": dvs_gesture.dvs_gesture,
    "folder": folder.folder,
    "motions": motions.motions,
    "nmnist": nmnist.nmnist,
    "spiking-heidelberg-digits": spiking.digits,
    "spiking-speech-commands": spiking.commands,
}


def build_task(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Return the task that `values["name"]` names; no sample is read yet.

    Raises:
        UnknownSetting: There is no such task, or the task has no such setting.
        InvalidSetting: A setting is missing or of the wrong type.
    """
    name = str(values.get("name"))
    if name not in TASKS:
        raise UnknownSetting("task", name, TASKS)
    return TASKS[name](values, data_dir, system)
