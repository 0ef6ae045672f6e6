"""Which version of which model serves: one for new sessions, older ones for theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from saccade.server.engine.models import ServedModel


class Catalogue:
    """The models of one server, by name and version."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._current = {model.name: model for model in models}
        self._versions = {(m.name, m.content_hash): m for m in self._current.values()}

    @property
    def current(self) -> Mapping[str, ServedModel]:
        """What new sessions get, by name."""
        return MappingProxyType(self._current)

    @property
    def older(self) -> list[ServedModel]:
        """What only sessions that began on it use."""
        return [m for m in self._versions.values() if m is not self._current[m.name]]

    def version(self, name: str, content_hash: str) -> ServedModel | None:
        """Return a version of a model, if it is served still."""
        return self._versions.get((name, content_hash))

    def promote(self, model: ServedModel) -> None:
        """Give new sessions of its name this version."""
        self._versions[model.name, model.content_hash] = model
        self._current[model.name] = model

    def drop(self, model: ServedModel) -> None:
        """Forget an older version."""
        del self._versions[model.name, model.content_hash]
