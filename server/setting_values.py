"""A setting's declaration, and its value as text, in TOML and in help texts.

`setting` declares a field of `Settings`. What values a type of field takes, and how
they are read and written, stands in one row of `KINDS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, Field, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin

from saccade.server.devices import Devices, parse_devices

PREFIX: Final = "SACCADE_"

Shape: TypeAlias = tuple[int, int]
"""Rows and ticks of one compiled call."""


class ReplicaBounds(NamedTuple):
    """How many replicas there are, at least and at most."""

    least: int
    most: int

    def __str__(self) -> str:
        least, most = self
        return f"{most}" if least == most else f"{least}-{most}"


def setting(
    default: Any,
    help: str,
    range: str = "",
    *,
    secret: bool = False,
    option: bool = True,
) -> Any:
    """Declare a field of `Settings`.

    Args:
        default: The value, or a function that returns it.
        help: What the setting is for, as `--help` prints it.
        range: The numbers that pass, as `> 0`, `>= 256` or `in 0..65535`.
        secret: Whether the value may hold a password, which `repr` leaves out.
        option: Whether `saccade serve` has an option for the setting.
    """
    source: dict[str, Any]
    source = {"default_factory" if callable(default) else "default": default}
    metadata = {"help": help, "range": range, "option": option, "secret": secret}
    return field(**source, repr=not secret, metadata=metadata)


class Kind(NamedTuple):
    """How the values of one type are read and written.

    Attributes:
        wanted: What TOML has to hold, for a message.
        from_text: Reads an option's or a variable's text; raises ValueError.
        from_toml: Reads TOML's value, given the folder of relative paths; raises
            TypeError or ValueError.
        to_toml: Writes a value so that `from_toml` reads the same.
    """

    wanted: str
    from_text: Callable[[str], Any]
    from_toml: Callable[[object, Path], Any]
    to_toml: Callable[[Any], str]


def kind_of(kind: Any) -> Kind:
    """Return the row of `KINDS` for a field's type."""
    if choices := choices_of(kind):
        wanted = "one of " + ", ".join(f'"{choice}"' for choice in choices)
        return KINDS[str]._replace(wanted=wanted)
    return KINDS[kind]


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the values of a `Literal` type; empty for another type."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def check_value(item: Field[Any], kind: Any, value: Any) -> None:
    """Check a value against its field's range and choices.

    Raises:
        ValueError: The value is not in the range, or none of the choices.
    """
    _check_range(item.name, value, item.metadata["range"])
    choices = choices_of(kind)
    if choices and value not in choices:
        known = ", ".join(choices)
        raise ValueError(f"{item.name} {value!r} is not one of {known}")


def _check_range(name: str, number: Any, range: str) -> None:
    """Raise ValueError unless a number is in its setting's range; NaN never is.

    Seconds end: stores and timers know no infinite time.
    """
    if name.endswith("_s") and not name.endswith("_per_s") and number == math.inf:
        raise ValueError(f"{name} is {number}; it must be finite")
    sign, _, bounds = range.partition(" ")
    low, _, high = bounds.partition("..")
    if sign == "in" and not int(low) <= number <= int(high):
        raise ValueError(f"{name} {number} is not {range}")
    if (sign == ">" and not number > int(low)) or (
        sign == ">=" and not number >= int(low)
    ):
        raise ValueError(f"{name} is {number}; it must be {range}")


def option(item: Field[Any]) -> str:
    """Return a setting's command-line option; `--model` is given once a model."""
    name = "model" if item.name == "models" else item.name
    return f"--{name.replace('_', '-')}"


def variable(item: Field[Any]) -> str:
    """Return a setting's environment variable."""
    return PREFIX + item.name.upper()


def default_of(item: Field[Any]) -> Any:
    """Return a setting's default on this machine."""
    made = item.default_factory
    return item.default if made is MISSING else made()


def help_text(item: Field[Any], kind: Any) -> str:
    """Return a setting's help text with its choices or range, and its default."""
    default = default_of(item)
    notes = [", ".join(choices_of(kind)) or item.metadata["range"]]
    if default not in {None, False, ()}:
        notes.append(f"default {shown(default)}")
    text, noted = item.metadata["help"], "; ".join(filter(None, notes))
    return f"{text} ({noted})" if noted else f"{text}"


def shown(default: Any) -> str:
    """Write a default as `--help` shows it."""
    if isinstance(default, float):
        return f"{default:g}" if math.isfinite(default) else "no limit"
    return str(default)


def toml_text(text: str) -> str:
    """Write a string as TOML's basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_buckets(text: str) -> tuple[Shape, ...]:
    """Read `8x4,64x1` as 8 rows by 4 ticks and 64 rows by one."""
    pairs = [part.strip().split("x") for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 or int(pair[0]) < 1 or int(pair[1]) < 1 for pair in pairs):
        raise ValueError("a bucket is ROWSxTICKS, both at least 1")
    return tuple((int(rows), int(ticks)) for rows, ticks in pairs)


def parse_replicas(text: str) -> ReplicaBounds:
    """Read `3` as three replicas, `1-4` as one to four."""
    least, _, most = text.partition("-")
    bounds = ReplicaBounds(int(least), int(most or least))
    if not 1 <= bounds.least <= bounds.most:
        raise ValueError("replicas are a number, or LEAST-MOST, from 1 on")
    return bounds


def _parse_paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(",") if part)


def _parse_words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_flag(text: str) -> bool:
    flags = dict.fromkeys(("1", "true", "yes"), True)
    flags |= dict.fromkeys(("0", "false", "no"), False)
    if text.lower() not in flags:
        raise ValueError("a flag is true or false")
    return flags[text.lower()]


def _parse_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def _text(value: object, folder: Path) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: object, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer(value: object, folder: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: object, folder: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    try:
        return float(value)
    except OverflowError:
        raise ValueError("the number is too large; inf is no limit") from None


def _path(value: object, folder: Path) -> Path:
    text = _text(value, folder)
    if not text or "\0" in text:
        raise TypeError
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as error:  # ~ of nobody
        raise ValueError(f"{text!r}: {error}") from None


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _words(value: object, folder: Path) -> tuple[str, ...]:
    return tuple(_text(each, folder) for each in _list(value))


def _paths(value: object, folder: Path) -> tuple[Path, ...]:
    return tuple(_path(each, folder) for each in _list(value))


def _shapes(value: object, folder: Path) -> tuple[Shape, ...]:
    return parse_buckets(",".join(_words(value, folder)))


def _write_number(value: float) -> str:
    return repr(float(value))  # TOML writes floats, inf among them, as Python does


def _write_path(value: Path) -> str:
    return toml_text(str(value.absolute()))


def _write_words(value: tuple[str, ...]) -> str:
    return f"[{', '.join(map(toml_text, value))}]"


def _write_paths(value: tuple[Path, ...]) -> str:
    return f"[{', '.join(map(_write_path, value))}]"


def _write_shapes(value: tuple[Shape, ...]) -> str:
    return _write_words(tuple(f"{rows}x{ticks}" for rows, ticks in value))


def _write_devices(value: Devices) -> str:
    return toml_text(str(value))


def _devices(value: object, folder: Path) -> Devices:
    return parse_devices(_text(value, folder))


def _replicas(value: object, folder: Path) -> ReplicaBounds:
    return parse_replicas(str(value) if type(value) is int else _text(value, folder))


def _write_replicas(value: ReplicaBounds) -> str:
    return toml_text(str(value))


def _write_flag(value: bool) -> str:  # noqa: FBT001 the value itself, no choice
    return str(value).lower()


_PATH: Final = Kind("a path in quotes", Path, _path, _write_path)

KINDS: Final[dict[Any, Kind]] = {
    str: Kind("a text in quotes", str, _text, toml_text),
    bool: Kind("true or false, without quotes", _parse_flag, _flag, _write_flag),
    int: Kind("a whole number, without quotes", _parse_integer, _integer, str),
    float: Kind("a number, without quotes", _parse_number, _number, _write_number),
    Path: _PATH,
    Path | None: _PATH,
    Devices: Kind('a text such as "cpu"', parse_devices, _devices, _write_devices),
    ReplicaBounds: Kind(
        'a number, or a text such as "1-4"', parse_replicas, _replicas, _write_replicas
    ),
    tuple[str, ...]: Kind("a list of texts", _parse_words, _words, _write_words),
    tuple[Path, ...]: Kind("a list of paths", _parse_paths, _paths, _write_paths),
    tuple[Shape, ...] | None: Kind(
        'a list such as ["8x4", "64x1"]', parse_buckets, _shapes, _write_shapes
    ),
}
"""By a field's type, how its values are read and written."""
