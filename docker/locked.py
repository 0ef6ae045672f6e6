"""Fail unless every release that an environment holds is pinned, and is the pinned one.

    python docker/locked.py PYTHON CONSTRAINTS...

PYTHON is the environment's interpreter. The program itself needs `packaging`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN = frozenset({"saccade", "pip"})
"""What no file of constraints names: the project, and what Python itself brings."""
LISTING = """
import json, platform
from importlib.metadata import distributions
releases = [[each.name, each.version] for each in distributions()]
print(json.dumps({"python": platform.python_version(), "releases": releases}))
"""


def pins(lines: Iterable[str], python: str) -> dict[str, str]:
    """Return the pinned versions by name, of the lines that hold for a Python.

    Args:
        lines: Lines of files of constraints, `NAME==VERSION [; MARKER]`.
        python: The version of Python, such as `3.12.1`.
    """
    environment = {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
    }
    found = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (version,) = requirement.specifier
            found[canonicalize_name(requirement.name)] = version.version
    return found


def differences(
    releases: Iterable[tuple[str, str]], pinned: dict[str, str]
) -> list[str]:
    """Return a sentence for each release that is not pinned, or not as installed."""
    sentences = []
    for name, version in sorted({(canonicalize_name(n), v) for n, v in releases}):
        if name in OWN or pinned.get(name) == version:
            continue
        expected = f"pinned at {pinned[name]}" if name in pinned else "not pinned"
        sentences.append(f"{name} {version} is installed, which is {expected}")
    return sentences


def main(arguments: list[str]) -> int:
    """Compare an environment with files of constraints; return the exit status."""
    python, *files = arguments
    listed = subprocess.run(
        [python, "-c", LISTING], check=True, capture_output=True, text=True
    )
    found = json.loads(listed.stdout)
    lines = [line for file in files for line in Path(file).read_text().splitlines()]
    sentences = differences(found["releases"], pins(lines, found["python"]))
    sys.stderr.write("".join(f"{sentence}\n" for sentence in sentences))
    sys.stdout.write(
        f"{len(found['releases'])} installed, {len(sentences)} not pinned\n"
    )
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
