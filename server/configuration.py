"""Where a setting's value comes from: an option, the environment, a file, its default.

The first of these that names a setting wins. The file is TOML: `NAME = VALUE` lines
with the names of `Settings`' fields, no tables. A relative path in it starts at the
file's folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import Field, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from saccade.server.setting_values import (
    PREFIX,
    check_value,
    default_of,
    kind_of,
    option,
    variable,
)

CONFIG: Final = "config"
"""Name of the option, and of the variable, that name the file."""


class ConfigurationError(ValueError):
    """Settings that cannot be used.

    ConfigurationError
    ├── UnreadableConfig    the file is missing, may not be read, or is no TOML
    ├── UnknownSetting      the file names something that is no setting
    └── WrongSetting        a value is of the wrong type, or out of range
    """


@dataclass(eq=False)
class UnreadableConfig(ConfigurationError):
    """The file is missing, may not be read, or is no TOML."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"cannot read the settings in {self.path}: {self.reason}"


@dataclass(eq=False)
class UnknownSetting(ConfigurationError):
    """The file names something that is no setting."""

    place: str
    name: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: there is no setting {self.name!r}; {self.remedy}"


@dataclass(eq=False)
class WrongSetting(ConfigurationError):
    """A value is of the wrong type, or out of range."""

    origin: Origin
    name: str
    reason: str

    def __str__(self) -> str:
        says_name = self.origin.kind != "file" or self.reason.startswith(self.name)
        named = "" if says_name else f"{self.name}: "
        return f"{self.origin}: {named}{self.reason}"


class Origin(NamedTuple):
    """Where a setting's value comes from.

    Attributes:
        kind: Which of the four sources.
        name: The option, the variable, or file and line.
    """

    kind: Literal["option", "environment", "file", "default"]
    name: str = "default"

    def __str__(self) -> str:
        return self.name


DEFAULT: Final = Origin("default")


class ConfigFile(NamedTuple):
    """What a file of settings holds.

    Attributes:
        path: The file, absolute.
        values: TOML's value by the name of each setting.
        lines: The line on which each setting begins.
    """

    path: Path
    values: Mapping[str, object]
    lines: Mapping[str, int]

    def origin(self, name: str) -> Origin:
        """Return the origin of a value in this file."""
        return Origin("file", _place(self.path, self.lines.get(name)))


class Resolved(NamedTuple):
    """Values that are each right by themselves, and where they come from.

    Attributes:
        values: By the name of each setting, those with a default included.
        origins: By the name of each setting.
        file: The file of settings; None without one.
    """

    values: dict[str, Any]
    origins: dict[str, Origin]
    file: Path | None


def resolve(
    items: Sequence[Field[Any]],
    types: Mapping[str, Any],
    environment: Mapping[str, str],
    options: Mapping[str, str | None],
) -> Resolved:
    """Find each setting's value: its option's, variable's, file's, or default.

    Args:
        items: The fields of the settings.
        types: The type of each field.
        environment: The process's variables; `SACCADE_CONFIG` names the file.
        options: The options' texts; `config` names the file.

    Raises:
        ConfigurationError: The file or a value cannot be read, or is out of range.
    """
    named = options.get(CONFIG)
    path = environment.get(PREFIX + CONFIG.upper(), "") if named is None else named
    names = [item.name for item in items]
    file = read_config(Path(path), names) if path else None
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for item in items:
        origin = _origin(item, environment, options, file)
        origins[item.name] = origin
        try:
            value = _value(item, types[item.name], origin, environment, options, file)
            check_value(item, types[item.name], value)
        except ValueError as error:
            reason = f"{error}{_hint(environment.get(origin.name, ''))}"
            raise WrongSetting(origin, item.name, reason) from None
        values[item.name] = value
    return Resolved(values, origins, file.path if file else None)


def _hint(text: str) -> str:
    """Return what may have set a variable to a text that no setting has."""
    if not text.startswith("tcp://"):
        return ""
    return (
        "; Kubernetes sets it in pods beside a Service of that name, unless "
        "enableServiceLinks is false"
    )


def _origin(
    item: Field[Any],
    environment: Mapping[str, str],
    options: Mapping[str, str | None],
    file: ConfigFile | None,
) -> Origin:
    if options.get(item.name) is not None:
        return Origin("option", option(item))
    if variable(item) in environment:
        return Origin("environment", variable(item))
    if file is not None and item.name in file.values:
        return file.origin(item.name)
    return DEFAULT


def _value(
    item: Field[Any],
    type_: Any,
    origin: Origin,
    environment: Mapping[str, str],
    options: Mapping[str, str | None],
    file: ConfigFile | None,
) -> Any:
    """Read a setting's value from its origin; ValueError where it is none."""
    kind = kind_of(type_)
    match origin.kind:
        case "option":
            return kind.from_text(options[item.name] or "")
        case "environment":
            return kind.from_text(environment[origin.name])
        case "file":
            assert file is not None
            found = file.values[item.name]
            try:
                return kind.from_toml(found, file.path.parent)
            except TypeError:
                what = "the value" if item.metadata["secret"] else repr(found)
                raise ValueError(f"{what} is not {kind.wanted}") from None
        case "default":
            return default_of(item)


def export(
    resolved: Resolved,
    options: Mapping[str, str | None],
    environment: MutableMapping[str, str],
) -> None:
    """Put what options and the file say into variables, for a process elsewhere.

    Paths become absolute: the process may start in another folder.

    Args:
        resolved: The values, and where they come from.
        options: The options' texts.
        environment: The variables that the process is to have.
    """
    if resolved.file is not None:
        environment[PREFIX + CONFIG.upper()] = str(resolved.file)
    for name, origin in resolved.origins.items():
        value, text = resolved.values[name], options.get(name)
        paths = value if isinstance(value, tuple) else (value,)
        named = origin.kind in {"option", "environment"}
        if named and all(isinstance(path, Path) for path in paths) and paths:
            text = ",".join(str(path.absolute()) for path in paths)
        if text is not None:
            environment[PREFIX + name.upper()] = text


def read_config(path: Path, names: Sequence[str]) -> ConfigFile:
    """Read a file of settings.

    Args:
        path: The file.
        names: The names of all settings.

    Raises:
        UnreadableConfig: The file cannot be read, or is no TOML.
        UnknownSetting: The file names something else.
    """
    path = path.absolute()
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UnreadableConfig(path, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise UnreadableConfig(path, f"it is not UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableConfig(path, f"it is no TOML: {error}") from None
    lines = {name: line for name in values if (line := _line_of(name, text))}
    for name, value in values.items():
        if name not in names:
            place = _place(path, lines.get(name))
            raise UnknownSetting(place, name, remedy_for(name, value, names))
    return ConfigFile(path, values, lines)


def remedy_for(name: str, value: object, names: Sequence[str]) -> str:
    """Return what to do about a name that is no setting's.

    Args:
        name: As the file has it.
        value: What the file gives it.
        names: The names of all settings.
    """
    if isinstance(value, dict):
        return "settings stand without tables, as `port = 8000`"
    close = get_close_matches(name.lower().replace("-", "_"), names, 1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "`saccade config` lists those that there are"


def _line_of(name: str, text: str) -> int | None:
    """Return the line on which a name is given a value or begins a table."""
    quoted = rf"""["']?{re.escape(name)}["']?"""
    begins = re.compile(rf"^\s*(?:{quoted}\s*[.=]|\[+\s*{quoted}\s*[].])")
    lines = enumerate(text.split("\n"), start=1)
    return next((number for number, line in lines if begins.match(line)), None)


def _place(path: Path, line: int | None) -> str:
    return f"{path}, line {line}" if line else f"{path}"
