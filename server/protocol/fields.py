"""Types of a message's fields, and how a dataclass becomes a map on the wire.

A field declares its type with `Annotated`; one without a `FieldType` has that of its
Python type, a `Literal` is a choice, and a dataclass is a map:

    seq: Annotated[int, integer(1, 2**53)]
    when_full: Omitted[Literal["block", "drop-oldest"]] = "block"
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, is_dataclass
from difflib import get_close_matches
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from saccade.model.events.sensor import Sensor
from saccade.server.protocol.errors import Fact, InvalidField, kind_of, quotable

T = TypeVar("T")
Map: TypeAlias = dict[str, Any]
"""What msgpack or JSON makes of a message."""
Parse: TypeAlias = Callable[[Any, str], Any]
"""Returns the value that msgpack or JSON gave for the named field, once checked.

Raises `InvalidField` where the value has another type or is out of range.
"""


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a field holds.

    Attributes:
        parse: Checks a value from the wire. `Any` ends here.
        name: The type, as docs/protocol.md writes it.
        range: The values allowed, as docs/protocol.md writes them.
        write: Converts a value for the wire; None where it needs no conversion.
    """

    parse: Parse
    name: str
    range: str = ""
    write: Callable[[Any], Any] | None = None


class GoesWith(NamedTuple):
    """A rule for a field that is given with some values of another, and only then."""

    field: str
    values: tuple[str, ...]


EXACT: Final = 2.0**53
"""Up to here a float holds every integer."""
_OMITTED: Final = object()
Omitted: TypeAlias = Annotated[T, _OMITTED]
"""A field that is not written while it has its default.

A reader of an older version, which does not know the field, can then read the rest.
"""


def integer(low: int, high: int) -> FieldType:
    """Declare an integer within both bounds; a bool is none.

    A whole float is one, as far as floats are exact: JavaScript has no other numbers.
    """

    def parse(value: Any, field: str) -> int:
        if type(value) is float and abs(value) <= EXACT and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise wrong_type(value, field, "an integer")
        if not low <= value <= high:
            raise InvalidField(
                field, f"is {quotable(value)}, not in {low}..{high}", value
            )
        return value

    return FieldType(parse, "integer", _bounds(low, high))


def number(low: float, high: float) -> FieldType:
    """Declare a finite number within both bounds, read as a float."""

    def parse(value: Any, field: str) -> float:
        if type(value) not in {int, float}:
            raise wrong_type(value, field, "a number")
        if not low <= value <= high:  # false for NaN as well
            raise InvalidField(
                field, f"is {quotable(value)}, not in {low:g}..{high:g}", value
            )
        return float(value)

    return FieldType(parse, "number", _bounds(low, high))


def _bounds(low: float, high: float) -> str:
    """Write bounds as docs/protocol.md does: a large one is a power of 2 or 10."""
    if low == high:
        return f"{low:g}"
    if high < 10_000:
        return f"{low:g}–{high:g}"
    base = 2 if isinstance(high, int) else 10
    return f"{low:g} … {base}^{math.log(high, base):.0f}"


def _finite(value: Any, field: str) -> float:
    if type(value) not in {int, float}:
        raise wrong_type(value, field, "a number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise InvalidField(field, "is too large", value)
    if not math.isfinite(value):
        raise InvalidField(field, f"is {value}, not a finite number", value)
    return float(value)


def text(longest: int) -> FieldType:
    """Declare a string of valid Unicode, not empty and not too long."""

    def parse(value: Any, field: str) -> str:
        if type(value) is not str:
            raise wrong_type(value, field, "a string")
        if not 1 <= len(value) <= longest:
            reason = f"has {len(value)} characters, not 1..{longest}"
            raise InvalidField(field, reason, value)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidField(field, "is not valid Unicode", value)
        return value

    return FieldType(parse, "string", f"1–{longest} characters")


def choice(*names: str) -> FieldType:
    """Declare one of the given strings."""

    def parse(value: Any, field: str) -> str:
        if type(value) is not str:
            raise wrong_type(value, field, "a string")
        if value not in names:
            allowed = ", ".join(map(repr, names))
            reason = f"must be one of {allowed}{did_you_mean(value, names)}"
            raise InvalidField(field, reason, value)
        return value

    return FieldType(parse, "string", ", ".join(f"`{name}`" for name in names))


def array(item: FieldType, shortest: int, longest: int) -> FieldType:
    """Declare an array whose items all have one type."""
    parse_item = item.parse

    def parse(value: Any, field: str) -> list[Any]:
        if type(value) is not list:
            raise wrong_type(value, field, "an array")
        if not shortest <= len(value) <= longest:
            reason = f"has {len(value)} items, not {shortest}..{longest}"
            raise InvalidField(field, reason, value)
        return [parse_item(each, f"{field}[{i}]") for i, each in enumerate(value)]

    return FieldType(parse, f"array of {item.name}s")


def nested(record: Record[Any]) -> FieldType:
    """Declare a map that is itself a dataclass."""

    def parse(value: Any, field: str) -> Any:
        if type(value) is not dict:
            raise wrong_type(value, field, "a map")
        return record.read(value, f"{field}.")

    return FieldType(parse, "map", write=record.write)


def _binary(value: Any, field: str) -> bytes:
    """Return bytes as they are, without a copy."""
    if type(value) is not bytes:
        raise wrong_type(value, field, "binary")
    return value


def _boolean(value: Any, field: str) -> bool:
    if type(value) is not bool:
        raise wrong_type(value, field, "a boolean")
    return value


def _fact(value: Any, field: str) -> Fact:
    return value if isinstance(value, (bool, int, str)) else _finite(value, field)


_sides: Final = array(integer(1, 65536), 2, 3).parse


def _sensor(value: Any, field: str) -> Sensor:
    sides = _sides(value, field)
    if len(sides) == 3 and sides[2] > 2:
        raise InvalidField(f"{field}[2]", f"is {sides[2]}, not in 1..2", sides[2])
    return Sensor(*sides)


FINITE: Final = FieldType(_finite, "number")
BINARY: Final = FieldType(_binary, "bytes")
BOOLEAN: Final = FieldType(_boolean, "boolean")
FACT: Final = FieldType(_fact, "any scalar")
SENSOR: Final = FieldType(
    _sensor,
    "array",
    "`[width, height]`, each 1–65536; or `[width, height, polarities]`, 1 or 2",
    Sensor.to_list,
)
_OF_PYTHON: Final = {bool: BOOLEAN, bytes: BINARY, Sensor: SENSOR}


def wrong_type(value: Any, field: str, wanted: str) -> InvalidField:
    """Return the error of a field that holds another type than the one wanted."""
    kind = kind_of(value)
    if type(value) is float and not math.isfinite(value):
        kind = str(value)
    return InvalidField(field, f"must be {wanted}, not {kind}", value)


def did_you_mean(name: str, known: tuple[str, ...]) -> str:
    """Suggest the known name nearest to a mistyped one, where one is near."""
    near = get_close_matches(name[:64], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Column(NamedTuple):
    """One field of a message."""

    type: FieldType
    default: Any
    omitted: bool
    rule: GoesWith | None


class Record(Generic[T]):
    """Reads and writes one dataclass as a map.

    A field without a default is required; any other may be null, which is its default.

    Args:
        kind: The dataclass.
    """

    def __init__(self, kind: type[T]) -> None:
        hints = get_type_hints(kind, include_extras=True)
        self.kind: Final = kind
        self.columns: Final = {
            field.name: _column(hints[field.name], field.default)
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        }
        columns = self.columns.items()
        self._names = tuple(self.columns)
        self._parsers = {name: column.type.parse for name, column in columns}
        self._writers = {n: c.type.write for n, c in columns if c.type.write}
        self._required = tuple(n for n, c in columns if c.default is MISSING)
        self._omitted = {n: c.default for n, c in columns if c.omitted}
        self._rules = {name: column.rule for name, column in columns if column.rule}

    def read(self, raw: Map, prefix: str = "") -> T:
        """Check every field of a map and build the dataclass.

        Raises:
            InvalidField: A field is missing, unknown, or its value does not pass.
        """
        values = {}
        for name, value in raw.items():
            parse = self._parsers.get(name)
            if parse is None:
                reason = f"is unknown{did_you_mean(name, self._names)}"
                raise InvalidField(prefix + name, reason, value)
            if value is not None or name in self._required:
                values[name] = parse(value, prefix + name)
        for name in self._required:
            if name not in values:
                raise InvalidField(prefix + name, "is missing")
        message = self.kind(**values)
        for name, rule in self._rules.items():
            _check(message, name, rule, prefix)
        return message

    def parse(self, name: str, value: Any) -> Any:
        """Check the value of one field.

        Raises:
            InvalidField: The value does not pass.
        """
        return self._parsers[name](value, name)

    def read_known(self, raw: Map) -> T:
        """Read a map as `read` does, but skip fields that a newer server may add."""
        return self.read({name: raw[name] for name in self._names if name in raw})

    def write(self, value: T) -> Map:
        """Turn the dataclass into a map, its fields in order."""
        raw = {name: getattr(value, name) for name in self._names}
        for name, convert in self._writers.items():
            if raw[name] is not None:
                raw[name] = convert(raw[name])
        for name, default in self._omitted.items():
            if raw[name] == default:
                del raw[name]
        return raw


def _column(hint: Any, default: Any) -> Column:
    parts = [*_parts(hint)]
    rules = [part for part in parts if isinstance(part, GoesWith)]
    return Column(
        _declared_type(parts), default, _OMITTED in parts, rules[0] if rules else None
    )


def _parts(hint: Any) -> Iterator[Any]:
    """Yield a type hint and all that it is made of, whatever `Annotated` adds too."""
    yield hint
    for part in () if get_origin(hint) is Literal else get_args(hint):
        yield from _parts(part)


def _declared_type(parts: list[Any]) -> FieldType:
    for part in parts:
        if isinstance(part, FieldType):
            return part
    for part in parts:
        if get_origin(part) is Literal:
            return choice(*get_args(part))
        if part in _OF_PYTHON:
            return _OF_PYTHON[part]
        if is_dataclass(part) and isinstance(part, type):
            return nested(Record(part))
    raise TypeError(f"{parts[0]} has no type on the wire")


def _check(message: Any, name: str, rule: GoesWith, prefix: str) -> None:
    value, wanted = getattr(message, name), getattr(message, rule.field) in rule.values
    if (value is not None) != wanted:
        only = f"goes with {' and '.join(rule.values)} only"
        raise InvalidField(prefix + name, "is missing" if wanted else only, value)
