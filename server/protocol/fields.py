"""One field's value: its type and range, and the error that names the field.

A parser takes what msgpack or JSON gave and the field's name, and returns the
value or raises `InvalidField`. `Any` ends here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, Final, Generic, TypeAlias, TypeVar

from saccade.model.events.sensor import Sensor
from saccade.server.protocol.errors import InvalidField, quotable
from saccade.server.protocol.messages import Fact

Parse: TypeAlias = Callable[[Any, str], Any]

_KINDS: Final = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    bytes: "binary",
    list: "an array",
    dict: "a map",
}


def integer(low: int, high: int) -> Parse:
    """Take an integer within both bounds; a bool is none."""

    def parse(value: Any, field: str) -> int:
        if type(value) is not int:
            raise wrong_type(value, field, "an integer")
        if not low <= value <= high:
            raise InvalidField(
                field, f"is {quotable(value)}, not in {low}..{high}", value
            )
        return value

    return parse


def number(low: float, high: float) -> Parse:
    """Take a finite number within both bounds, as a float."""

    def parse(value: Any, field: str) -> float:
        if type(value) not in {int, float}:
            raise wrong_type(value, field, "a number")
        if not low <= value <= high:  # false for NaN as well
            raise InvalidField(
                field, f"is {quotable(value)}, not in {low:g}..{high:g}", value
            )
        return float(value)

    return parse


def finite(value: Any, field: str) -> float:
    """Take any finite number, as a float."""
    if type(value) not in {int, float}:
        raise wrong_type(value, field, "a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidField(field, "is too large", value)
    if not math.isfinite(value):
        raise InvalidField(field, f"is {value}, not a finite number", value)
    return float(value)


def text(longest: int) -> Parse:
    """Take a string of valid Unicode, not empty and not too long."""

    def parse(value: Any, field: str) -> str:
        if type(value) is not str:
            raise wrong_type(value, field, "a string")
        if not 1 <= len(value) <= longest:
            reason = f"has {len(value)} characters, not 1..{longest}"
            raise InvalidField(field, reason, value)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidField(field, "is not valid Unicode", value)
        return value

    return parse


def choice(*names: str) -> Parse:
    """Take one of the given strings."""

    def parse(value: Any, field: str) -> str:
        if type(value) is not str:
            raise wrong_type(value, field, "a string")
        if value not in names:
            allowed = ", ".join(map(repr, names))
            reason = f"must be one of {allowed}{did_you_mean(value, names)}"
            raise InvalidField(field, reason, value)
        return value

    return parse


def array(item: Parse, shortest: int, longest: int) -> Parse:
    """Take an array of items, each of which passes."""

    def parse(value: Any, field: str) -> list[Any]:
        if type(value) is not list:
            raise wrong_type(value, field, "an array")
        if not shortest <= len(value) <= longest:
            reason = f"has {len(value)} items, not {shortest}..{longest}"
            raise InvalidField(field, reason, value)
        return [item(each, f"{field}[{i}]") for i, each in enumerate(value)]

    return parse


def optional(parse_present: Parse) -> Parse:
    """Take null as well, as None."""

    def parse(value: Any, field: str) -> Any:
        return None if value is None else parse_present(value, field)

    return parse


def binary(value: Any, field: str) -> bytes:
    """Take bytes as they are, without a copy."""
    if type(value) is not bytes:
        raise wrong_type(value, field, "binary")
    return value


def boolean(value: Any, field: str) -> bool:
    """Take true or false."""
    if type(value) is not bool:
        raise wrong_type(value, field, "a boolean")
    return value


def fact(value: Any, field: str) -> Fact:
    """Take a scalar that an error quotes."""
    if isinstance(value, (bool, int, str)):
        return value
    return finite(value, field)


_sides: Final = array(integer(1, 65536), 2, 3)


def sensor(value: Any, field: str) -> Sensor:
    """Take `[width, height]`, or `[width, height, polarities]`."""
    sides = _sides(value, field)
    if len(sides) == 3 and sides[2] > 2:
        raise InvalidField(f"{field}[2]", f"is {sides[2]}, not in 1..2", sides[2])
    return Sensor(*sides)


def wrong_type(value: Any, field: str, wanted: str) -> InvalidField:
    """Say what a field should have held, and what it holds."""
    kind = _KINDS.get(type(value), type(value).__name__)
    if type(value) is float and not math.isfinite(value):
        kind = str(value)
    return InvalidField(field, f"must be {wanted}, not {kind}", value)


def did_you_mean(name: str, known: tuple[str, ...]) -> str:
    """Suggest the known name nearest to a mistyped one, where one is near."""
    near = get_close_matches(name[:64], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# >>> merged from server.protocol.records
# >>> """A dataclass as a map on the wire: which fields, how each is read and written."""

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
