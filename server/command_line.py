"""The options that `saccade serve`, `saccade config` and `saccade doctor` share.

`saccade config` prints the settings that a server would have, as a file of settings.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from saccade.server.configuration import Resolved
from saccade.server.setting_values import help_text, kind_of, option
from saccade.server.settings import Settings, resolve_settings

COMMENTS_AT: Final = 40
"""The column at which a value's origin begins, where the value is short enough."""

UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")
"""What TOML allows in no comment."""


def config(argv: Sequence[str] | None = None) -> int:
    """Print the settings of a server, as TOML, with the origin of each value.

    It takes the options of `saccade serve`. What it prints can be given to --config.
    Values that hold a password are left out.
    """
    parser = settings_parser("saccade config", config.__doc__ or "")
    arguments = parser.parse_args(argv)
    try:
        resolved = resolve_settings(os.environ, option_texts(arguments))
        Settings(**resolved.values)
    except ValueError as error:
        sys.stderr.write(f"saccade config: {error}\n")
        return 2
    sys.stdout.write("\n".join(written(resolved)) + "\n")
    return 0


def settings_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return a parser of a command line, with an option for each setting.

    Args:
        program: The command's name.
        description: What the command does.
    """
    result = argparse.ArgumentParser(prog=program, description=description)
    result.add_argument(
        "--config",
        metavar="FILE",
        help="a TOML file of settings; options and SACCADE_* variables win over it "
        "(default: SACCADE_CONFIG)",
    )
    types = get_type_hints(Settings)
    for item in fields(Settings):
        if item.metadata["option"]:
            options = _option_form(types[item.name])
            options |= {"dest": item.name, "help": help_text(item, types[item.name])}
            result.add_argument(option(item), **options)
    return result


def _option_form(kind: Any) -> dict[str, Any]:
    """Return what argparse has to know of the options of a type of setting."""
    if kind is bool:
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    return {"action": "append"} if kind == tuple[Path, ...] else {}


def option_texts(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return each option's text as its environment variable would hold it."""
    return {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
    }


def written(resolved: Resolved) -> Iterator[str]:
    """Yield the lines of a file of settings that has the same values.

    Args:
        resolved: The values, and where they come from.
    """
    yield "# Settings of saccade serve. An option wins over a variable, a variable over"
    yield f"# the file of settings ({_comment(str(resolved.file or 'there is none'))})."
    types = get_type_hints(Settings)
    for item in fields(Settings):
        value, origin = resolved.values[item.name], resolved.origins[item.name]
        text = _line(item, types[item.name], value)
        yield f"{text:<{COMMENTS_AT}}  # {_comment(str(origin))}"


def _line(item: Field[Any], kind: Any, value: Any) -> str:
    """Write a setting; a comment where it has no value, or one to keep secret."""
    if value is None:
        return f"# {item.name} is not set"
    if holds_password(item, value):
        return f"# {item.name} holds a password"
    return f"{item.name} = {kind_of(kind).to_toml(value)}"


def holds_password(item: Field[Any], value: Any) -> bool:
    """Return whether a setting's value holds a password, as an address may."""
    if not item.metadata["secret"] or not value:
        return False
    return "://" not in value or "@" in value


def _comment(text: str) -> str:
    return UNPRINTABLE.sub("?", text)
