"""The command `saccade`, as a user runs it."""

from __future__ import annotations

import subprocess
import sys


def saccade(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "saccade", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
    )
