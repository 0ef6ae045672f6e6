"""From the settings of `logging` to what opens a run's log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeAlias

from saccade.model.training.devices import is_first
from saccade.model.training.errors import MissingPackage
from saccade.model.training.log import FolderLog, Log, Logs
from saccade.model.training.run_folder import RunFolder
from saccade.model.training.settings import LoggingSettings, WandbSettings

Open: TypeAlias = Callable[
    [RunFolder, Mapping[str, Any], Mapping[str, Any]], AbstractContextManager[Log]
]
"""The run's folder, its resolved configuration and its origin to its log."""


def choose_log(settings: LoggingSettings | WandbSettings) -> Open:
    """Return what opens the log that the settings name.

    Raises:
        MissingPackage: It needs one that is not installed.
    """
    return _CHOICES[type(settings)](settings)


def _local(_: LoggingSettings | WandbSettings) -> Open:
    @contextmanager
    def open_log(
        folder: RunFolder, values: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> Iterator[Log]:
        yield FolderLog(folder)

    return open_log


def _wandb(settings: WandbSettings) -> Open:
    """Of several processes the first alone is seen there."""
    # It would tell its makers of every error of this process, from its import on.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        from saccade.model.training.wandb_log import wandb_log
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        raise MissingPackage("logging=wandb", "wandb", "wandb") from error
    if not is_first():
        return _local(settings)

    @contextmanager
    def open_log(
        folder: RunFolder, values: Mapping[str, Any], origin: Mapping[str, Any]
    ) -> Iterator[Log]:
        with wandb_log(settings, folder, values, origin) as there:
            yield Logs((FolderLog(folder), there))

    return open_log


_CHOICES: Final[Mapping[type, Callable[[Any], Open]]] = {
    LoggingSettings: _local,
    WandbSettings: _wandb,
}
