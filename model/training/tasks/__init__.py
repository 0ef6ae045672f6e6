"""The tasks: one module each, and the table that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from model.training.dataset import Task
from model.training.errors import UnknownSetting
from model.training.settings import SystemSettings
from model.training.tasks import folder, motions, nmnist

Builder = Callable[[Mapping[str, Any], Path | None, SystemSettings], Task]
TASKS: Final[Mapping[str, Builder]] = {
    "folder": folder.folder,
    "motions": motions.motions,
    "nmnist": nmnist.nmnist,
}


def build_task(
    values: Mapping[str, Any], data_dir: Path | None, system: SystemSettings
) -> Task:
    """Make the task that `values["name"]` names; nothing is read yet.

    Raises:
        UnknownSetting: There is no such task, or it has no such setting.
        InvalidSetting: A setting is missing or of the wrong type.
    """
    name = str(values.get("name"))
    if name not in TASKS:
        raise UnknownSetting("task", name, TASKS)
    return TASKS[name](values, data_dir, system)
