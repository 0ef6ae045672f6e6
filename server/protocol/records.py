"""A dataclass as a map on the wire: which fields, how each is read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, Generic, TypeAlias, TypeVar

from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.fields import Parse, did_you_mean, wrong_type

T = TypeVar("T")
Map: TypeAlias = dict[str, Any]
"""What msgpack or JSON makes of a message."""


class Record(Generic[T]):
    """Reads and writes one dataclass.

    Whether a field may be missing, and what it is then, the dataclass says.

    Args:
        kind: The dataclass.
        parsers: For each of its fields, in order, how its value is read.
        omitted: Fields that are left out when they have their default, so that
            whoever never heard of them can read the rest.
        write: Fields whose value is not written as it is.
    """

    def __init__(
        self,
        kind: type[T],
        parsers: Mapping[str, Parse],
        *,
        omitted: tuple[str, ...] = (),
        write: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        declared = fields(kind)  # type: ignore[arg-type]
        assert {field.name for field in declared} == set(parsers)
        self.kind: Final = kind
        self.names: Final = tuple(parsers)
        self._parsers = dict(parsers)
        self._required = tuple(f.name for f in declared if f.default is MISSING)
        self._nullable = frozenset(f.name for f in declared if f.default is None)
        self._omitted = {f.name: f.default for f in declared if f.name in omitted}
        self._write = dict(write or {})

    def read(self, raw: Map, prefix: str = "") -> T:
        """Check every field of a map and build the dataclass.

        Raises:
            InvalidField: A field is missing, unknown, or its value does not pass.
        """
        values = {}
        for name, value in raw.items():
            parse = self._parsers.get(name)
            if parse is None:
                reason = f"is unknown{did_you_mean(name, self.names)}"
                raise InvalidField(prefix + name, reason, value)
            if value is not None or name not in self._nullable:
                values[name] = parse(value, prefix + name)
        for name in self._required:
            if name not in values:
                raise InvalidField(prefix + name, "is missing")
        return self.kind(**values)

    def read_known(self, raw: Map) -> T:
        """Do as `read`, but skip fields that a newer server may have added."""
        return self.read({name: raw[name] for name in self.names if name in raw})

    def write(self, value: T) -> Map:
        """Turn the dataclass into a map, its fields in order."""
        raw = {name: getattr(value, name) for name in self.names}
        for name, convert in self._write.items():
            if raw[name] is not None:
                raw[name] = convert(raw[name])
        for name, default in self._omitted.items():
            if raw[name] == default:
                del raw[name]
        return raw

    def nested(self, value: Any, field: str) -> T:
        """Read the dataclass where it is itself a field."""
        if type(value) is not dict:
            raise wrong_type(value, field, "a map")
        return self.read(value, f"{field}.")
