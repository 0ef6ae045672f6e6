"""`saccade doctor`: examines what a server with the same settings would meet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from saccade import __version__
from saccade.server.command_line import option_texts, settings_parser
from saccade.server.doctor.access import (
    check_certificate,
    check_fleet,
    check_keys,
    check_settings,
)
from saccade.server.doctor.findings import (
    Finding,
    Subject,
    as_json,
    as_text,
    subject_of,
    summary,
    worst,
)
from saccade.server.doctor.machine import (
    check_compiled,
    check_cpu_time,
    check_files,
    check_memory,
    check_versions,
)
from saccade.server.doctor.models import check_models
from saccade.server.doctor.network import check_clock, check_port
from saccade.server.doctor.stores import check_store, check_uploads
from saccade.server.settings import resolve_settings

CHECKS: Final[dict[str, Callable[[Subject], Iterable[Finding]]]] = {
    "settings": check_settings,
    "versions": check_versions,
    "files": check_files,
    "memory": check_memory,
    "cpu": check_cpu_time,
    "port": check_port,
    "keys": check_keys,
    "certificate": check_certificate,
    "clock": check_clock,
    "store": check_store,
    "fleet": check_fleet,
    "uploads": check_uploads,
    "compiled": check_compiled,
    "device": check_models,
}
"""In the order of the report: what takes seconds comes last."""


def doctor(argv: Sequence[str] | None = None) -> int:
    """Examine what would keep a server from serving, and say what to do about it.

    It takes the settings of `saccade serve`: the same options, variables and file. The
    exit status is 1 where something is at fault.
    """
    parser = settings_parser("saccade doctor", doctor.__doc__ or "")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    parser.add_argument(
        "--against",
        default="",
        metavar="URL",
        help="a server of the same fleet, whose clock is compared",
    )
    arguments = parser.parse_args(argv)
    findings = examine(option_texts(arguments), arguments.against)
    if arguments.json:
        found = list(findings)
        sys.stdout.write(as_json(found, __version__) + "\n")
    else:
        found = list(_shown(findings))
        sys.stdout.write(f"{summary(found)}\n")
    return 1 if worst(found) == "fault" else 0


def _shown(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Write each finding as soon as it is there."""
    for finding in findings:
        sys.stdout.write("\n".join(as_text([finding])) + "\n")
        sys.stdout.flush()
        yield finding


def examine(options: dict[str, str | None], against: str = "") -> Iterator[Finding]:
    """Yield what all checks find.

    Args:
        options: The options' texts, by the names of the settings.
        against: Address of a server whose clock is compared; empty for none.
    """
    try:
        resolved = resolve_settings(os.environ, options)
        subject = subject_of(resolved, os.environ, against)
    except ValueError as error:
        remedy = "the other checks wait for settings that a server can take"
        yield Finding("settings", "fault", str(error), remedy)
        return
    for name, check in CHECKS.items():
        try:
            yield from check(subject)
        except OSError as error:
            yield Finding(name, "warning", f"this cannot be looked at: {error}")
