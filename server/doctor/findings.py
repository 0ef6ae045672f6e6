"""What a check finds, what it looks at, and how findings are written."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from saccade.server.configuration import DEFAULT, Resolved
from saccade.server.settings import Settings

Level = Literal["ok", "warning", "fault"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "warning", "fault")
"""From the best to the worst."""

WIDTH: Final = 100
INDENT: Final = 24


class Finding(NamedTuple):
    """One fact about a server's surroundings.

    Attributes:
        check: Name of the check, such as `port`.
        level: `fault` where the server would not start, or not do its work.
        text: The fact, in a sentence.
        remedy: What to do about it; empty where nothing has to be done.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""


class Subject(NamedTuple):
    """What is examined: the settings of a server that does not run.

    Attributes:
        resolved: The settings' values, each right by itself, and their origins.
        settings: The same settings, without certificate and without need of keys, so
            that those may be what is wrong.
        environment: The variables of the process.
        against: Address of a server whose clock is compared; empty for none.
    """

    resolved: Resolved
    settings: Settings
    environment: Mapping[str, str]
    against: str = ""


def subject_of(
    resolved: Resolved, environment: Mapping[str, str], against: str = ""
) -> Subject:
    """Return what is examined.

    Raises:
        ValueError: Settings other than those of certificate and keys do not fit
            together.
    """
    values = {**resolved.values, "tls_cert": None, "tls_key": None, "insecure": True}
    if values["ray"] and resolved.origins["store"] == DEFAULT:
        values["store"] = "redis"  # as the replicas have it
    settings = Settings(**values)
    return Subject(resolved, settings, environment, against)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of findings; `ok` without any."""
    return max((each.level for each in findings), key=LEVELS.index, default="ok")


def as_json(findings: Sequence[Finding], version: str) -> str:
    """Write findings as one JSON object."""
    report = {
        "saccade": version,
        "python": sys.version.split()[0],
        "status": worst(findings),
        "findings": [each._asdict() for each in findings],
    }
    return json.dumps(report, indent=2)


def as_text(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield findings as lines: level, check, sentence; below it, what to do."""
    blank = " " * INDENT
    for check, level, text, remedy in findings:
        head = f"{level:<8} {check:<14} "
        yield textwrap.fill(
            text, WIDTH, initial_indent=head, subsequent_indent=blank,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        if remedy:
            yield textwrap.fill(
                remedy, WIDTH, initial_indent=f"{blank}-> ", subsequent_indent=blank,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip


def summary(findings: Sequence[Finding]) -> str:
    """Return a sentence that counts what was found."""
    counts = {level: sum(f.level == level for f in findings) for level in LEVELS}
    if not (counts["fault"] or counts["warning"]):
        return f"all {counts['ok']} checks are well"
    parts = [
        f"{counts[level]} {level}{'s' if counts[level] > 1 else ''}"
        for level in ("fault", "warning")
        if counts[level]
    ]
    return f"{' and '.join(parts)}, {counts['ok']} well"
