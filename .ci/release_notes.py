"""Print the notes of a release from CHANGELOG.md, or say what does not agree.

    python .ci/release_notes.py            the notes of what is not released yet
    python .ci/release_notes.py v0.2.0     those of a tagged version

A tag, `saccade.__version__` and the changelog's newest section have to agree, and so
have the other files that name the version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

UNRELEASED = "Unreleased"
HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
PLACES = {
    "clients/web/package.json": r'"version": "([^"]+)"',
    "docker/kubernetes/base/kustomization.yaml": r"newTag: (\S+)",
    "docker/kubernetes/cuda/kustomization.yaml": r"newTag: (\S+)",
    "docker/kubernetes/training/kustomization.yaml": r"newTag: (\S+)",
    "docs/deploy.md": r"registry\.example/saccade:(\d\S+)",
    "docs/training-on-several-hosts.md": r"registry\.example/saccade-cuda:(\d\S+)",
}
"""Files that name the version beside the code, and where in them."""


class Section(NamedTuple):
    """A section of the changelog: its version, its date, its text."""

    version: str
    date: str
    text: str


def version_of(root: Path) -> str:
    """Return the version of the code in a checkout."""
    text = (root / "src/saccade/__init__.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return str(version)


def sections(changelog: str) -> list[Section]:
    """Return a changelog's sections, the newest first."""
    found = list(HEADING.finditer(changelog))
    ends = [heading.start() for heading in found[1:]] + [len(changelog)]
    return [
        Section(heading[1], heading[2] or "", changelog[heading.end() : end].strip())
        for heading, end in zip(found, ends, strict=True)
    ]


def disagreements(root: Path, tag: str | None) -> list[str]:
    """Return a sentence for each place that names another version than the code.

    Args:
        root: The checkout.
        tag: The tag of the release, `vX.Y.Z`; None: nothing is released yet.
    """
    version = version_of(root)
    wrong = [
        f"{name} names {found}; src/saccade/__init__.py says {version}"
        for name, pattern in PLACES.items()
        for found in re.findall(pattern, (root / name).read_text("utf-8")) or ["none"]
        if found != version
    ]
    history = sections((root / "CHANGELOG.md").read_text("utf-8"))
    if [section.version for section in history[:1]] != [UNRELEASED]:
        wrong.append(f"CHANGELOG.md does not begin with [{UNRELEASED}]")
    if tag is None or wrong:
        return wrong
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, and the code's version is {version}")
    if history[0].text:
        wrong.append(f"CHANGELOG.md still has entries under [{UNRELEASED}]")
    newest = history[1] if len(history) > 1 else Section("none", "", "")
    if (newest.version, bool(newest.date), bool(newest.text)) != (version, True, True):
        wrong.append(f"CHANGELOG.md's newest section is not [{version}] - YYYY-MM-DD")
    return wrong


def notes(root: Path, tag: str | None) -> str:
    """Return the notes of a release in Markdown."""
    history = sections((root / "CHANGELOG.md").read_text("utf-8"))
    if tag is None:
        return f"# Saccade {version_of(root)}, not released\n\n{history[0].text}\n"
    version, date, text = history[1]
    return f"# Saccade {version} ({date})\n\n{text}\n"


def main(arguments: list[str], root: Path = Path(__file__).parents[1]) -> int:
    """Print the notes and return 0, or what does not agree and return 1."""
    tag = arguments[0] if arguments else None
    wrong = disagreements(root, tag)
    if wrong:
        sys.stderr.write("".join(f"{sentence}\n" for sentence in wrong))
        return 1
    sys.stdout.write(notes(root, tag))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
