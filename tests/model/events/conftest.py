"""The folder of real recordings, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Return the folder of real recordings, or skip the test."""
    default = REPOSITORY.parent / "shared" / "recordings"
    folder = Path(os.environ.get("SACCADE_RECORDINGS", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set SACCADE_RECORDINGS)")
    return folder
