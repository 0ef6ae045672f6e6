"""Where a model came from: command, code, packages."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("saccade", "jax", "jaxlib", "flax", "optax", "numpy")


def provenance(command: str, words: Sequence[str]) -> dict[str, Any]:
    """Describe this process as plain JSON values.

    Args:
        command: The sub-command, such as `train`.
        words: What followed it.
    """
    return {
        "command": f"saccade {command} {shlex.join(words)}".strip(),
        "git": git_hash(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_hash() -> str | None:
    """Return the commit of the code that runs, `-dirty` where it was changed since."""
    described = _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    return described or None


def _git(*words: str) -> str:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
