"""Which version of each model a replica serves: links that its server watches.

The server sees one folder a model, which never changes its path. A link leads there to
the folder of a version. Another version is served once the link is replaced, by the hot
reload that a replaced folder gets: sessions that have begun stay on the old version.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from saccade.server.ray_serve.errors import VersionRefused

MANIFEST: Final = "manifest.json"


class Version(NamedTuple):
    """One version of a model: its folder, its name, the hash that tells it apart."""

    folder: Path
    name: str
    content_hash: str


def read_version(folder: Path) -> Version:
    """Read which version a checkpoint's folder holds.

    Raises:
        VersionRefused: It holds none.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        name, content_hash = manifest["name"], manifest["content_hash"]
    except OSError as error:
        reason = f"{MANIFEST} cannot be read here: {error.strerror}"
        raise VersionRefused(folder, reason) from None
    except (ValueError, KeyError, TypeError) as error:
        raise VersionRefused(folder, f"{MANIFEST} is not one: {error}") from None
    return Version(folder.resolve(), str(name), str(content_hash))


def read_versions(folders: Iterable[Path]) -> dict[str, Version]:
    """Read the versions in some folders, by the models' names.

    Raises:
        VersionRefused: A folder holds none, or two are of one model.
    """
    found: dict[str, Version] = {}
    for folder in folders:
        version = read_version(folder)
        if version.name in found:
            other = found[version.name].folder
            reason = f"{other} has a model of the same name, {version.name!r}"
            raise VersionRefused(folder, reason)
        found[version.name] = version
    return found


class VersionLinks:
    """The links of one replica.

    Args:
        folder: Keeps them; its own.
        versions: What to serve at first, by the models' names.
    """

    def __init__(self, folder: Path, versions: Mapping[str, Version]) -> None:
        self._folder = folder
        self._served: dict[str, Version] = {}
        self._numbers = {name: str(number) for number, name in enumerate(versions)}
        for version in versions.values():
            self._point(version)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that the server is to watch, one a model."""
        return tuple(self._link(name) for name in self._served)

    def replace(self, versions: Mapping[str, Version]) -> list[Version]:
        """Let other versions be served; return those that were not served before.

        Raises:
            VersionRefused: They are not of the models that are served.
        """
        new = [one for name, one in versions.items() if name not in self._served]
        missing = sorted(self._served.keys() - versions.keys())
        if new or missing:
            folder = new[0].folder if new else self._served[missing[0]].folder
            served = ", ".join(sorted(self._served))
            reason = f"this replica serves {served}; other models need a new replica"
            raise VersionRefused(folder, reason)
        changed = [
            one
            for name, one in versions.items()
            if one.content_hash != self._served[name].content_hash
        ]
        for version in changed:
            self._point(version)
        return changed

    def _link(self, name: str) -> Path:
        return self._folder / self._numbers[name]

    def _point(self, version: Version) -> None:
        """Let a model's link lead to a version, at no moment nowhere."""
        link = self._link(version.name)
        new = link.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.symlink_to(version.folder, target_is_directory=True)
        os.replace(new, link)
        self._served[version.name] = version
