"""Hot reload: new sessions use a checkpoint as soon as it is replaced on disk.

Sessions that began on the old version end on it. The old version is unloaded once it
has had no session for as long as a session without a client is kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from stat import S_ISDIR
from typing import Final, Protocol, TypeAlias

from saccade.model.checkpoint import CheckpointError
from saccade.server.engine.engine import Engine
from saccade.server.engine.errors import EngineError
from saccade.server.engine.loading import load_model
from saccade.server.engine.model_registry import Catalogue, ServedModel
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)
RELOADING: Final = "the look for new versions of the models"

Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Each file of a folder: its path, its inode, when it was written (ns), its bytes."""


class ReloadObserver(Protocol):
    """Receives what becomes of new versions."""

    def add(self, model: ServedModel) -> None:
        """A version is about to be compiled."""

    def reloaded(self, model: str) -> None:
        """A model's new sessions use another version from now on."""

    def not_reloaded(self, model: str) -> None:
        """A new version was refused; the model's version stays."""


class Reloading:
    """Watches the folders of the served checkpoints.

    Args:
        catalogue: The served versions.
        engine: Loads and unloads versions.
        observer: Receives what becomes of new versions.
        streams: Returns the number of streams of a version, by its key.
        idle_s: Seconds for which an old version without streams is kept.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        engine: Engine,
        observer: ReloadObserver,
        streams: Callable[[str], int],
        idle_s: float,
    ) -> None:
        self._catalogue = catalogue
        self._engine = engine
        self._observer = observer
        self._streams = streams
        self._idle_s = idle_s
        folders = {m.folder: m.name for m in catalogue.current.values() if m.folder}
        self._names: dict[Path, str] = folders
        self._served = {folder: stamp_of(folder) for folder in folders}
        self._seen = dict(self._served)
        self._last_used_s: dict[str, float] = {}

    async def look(self) -> None:
        """Take over new versions, and unload those without use; to be repeated.

        Raises:
            ExceptionGroup: A folder could not be looked at, or read; the others were.
        """
        failures: list[Exception] = []
        for folder, name in self._names.items():
            try:
                if await asyncio.to_thread(self._settled, folder):
                    await self._replace(folder, name)
            except Exception as error:
                self._observer.not_reloaded(name)
                failures.append(error)
        self._retire(time.monotonic())
        if failures:
            raise ExceptionGroup(_reasons(failures), failures)

    def _settled(self, folder: Path) -> bool:
        """Return whether a folder has changed, and not since the last look."""
        stamp, before = stamp_of(folder), self._seen[folder]
        self._seen[folder] = stamp
        if stamp != before or stamp == self._served.get(folder):
            return False
        self._served[folder] = stamp
        return True

    async def _replace(self, folder: Path, name: str) -> None:
        try:
            now = self._catalogue.current[name]
            model = await asyncio.to_thread(
                load_model,
                folder,
                now.execution,
                kept=now.kept,
                precisions={"": now.servable.matmul_precision},
            )
            if model.name != name:
                raise WrongName(name, model.name)
            if model.content_hash == self._catalogue.current[name].content_hash:
                return
            await self._promote(model)
        except (CheckpointError, EngineError, WrongName) as error:
            facts = about("not_reloaded", model=name, folder=str(folder))
            LOG.error("%s is not reloaded: %s", folder, error, extra=facts)
            self._observer.not_reloaded(name)
        except BaseException:
            del self._served[folder]  # nothing is known of the version: look again
            raise

    async def _promote(self, model: ServedModel) -> None:
        known = self._catalogue.version(model.name, model.content_hash)
        if known is None:
            self._observer.add(model)
            await asyncio.to_thread(self._engine.load, model.servable)
        self._catalogue.promote(known or model)
        self._observer.reloaded(model.name)
        LOG.warning(
            "new sessions of %r get version %s",
            model.name,
            model.key,
            extra=about("reloaded", model=model.name, version=model.key),
        )

    def _retire(self, now_s: float) -> None:
        for model in self._catalogue.older:
            if self._streams(model.key) or model.key not in self._last_used_s:
                self._last_used_s[model.key] = now_s
            elif now_s - self._last_used_s[model.key] >= self._idle_s:
                self._catalogue.drop(model)
                self._engine.unload(model.key)
                del self._last_used_s[model.key]
                LOG.warning(
                    "%s has no sessions any more and is unloaded",
                    model.key,
                    extra=about("unloaded", model=model.name, version=model.key),
                )


class WrongName(Exception):
    """A folder's checkpoint has another model's name than before."""

    def __init__(self, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"it held {self.expected!r} and holds {self.found!r} now"


def stamp_of(folder: Path) -> Stamp:
    """Return paths, inodes, times, sizes of a folder's files; nothing without folder.

    A link may have been set to another folder whose files are as old and as large.

    Raises:
        OSError: The folder cannot be looked at now.
    """
    stamps: list[tuple[str, int, int, int]] = []
    try:
        with os.scandir(folder) as entries:
            paths = sorted(Path(entry.path) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:  # removed since the folder was listed
            continue
        if S_ISDIR(status.st_mode):
            stamps += stamp_of(path)
        facts = status.st_ino, status.st_mtime_ns, status.st_size
        stamps.append((str(path), *facts))
    return tuple(stamps)


def _reasons(failures: list[Exception]) -> str:
    return "; ".join(f"{type(each).__name__}: {each}" for each in failures)
