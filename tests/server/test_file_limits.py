"""The files that a server may have open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import saccade
from saccade.server.file_limits import files_of
from saccade.server.settings import Settings

SOURCES = str(Path(saccade.__file__).parents[1])


def soft_limit_after(soft: int, hard: int, wanted: int) -> int:
    """Return the limit that a process has which began with another and wants more."""
    program = (
        "import resource; from saccade.server.file_limits import raise_file_limit; "
        f"raise_file_limit({wanted}); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    shell = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    ended = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": SOURCES},
    )
    return int(ended.stdout)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "expected"),
    [(200, 900, 500, 500), (200, 400, 500, 400), (600, 900, 500, 600)],
)
def test_the_limit_is_raised_as_far_as_the_system_lets_it(
    soft: int, hard: int, wanted: int, expected: int
) -> None:
    assert soft_limit_after(soft, hard, wanted) == expected


def test_workers_share_the_sessions_of_all_models() -> None:
    models = (Path("a"), Path("b"))
    alone = files_of(Settings(models=models), 1000)
    shared = files_of(Settings(models=models, workers=4), 1000)
    assert alone - shared == 2000 - 500
