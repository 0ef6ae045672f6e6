from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.clients.commands.server_process import ServerProcess

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("0", id="one process"),
        pytest.param("2", id="two workers", marks=pytest.mark.slow),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """`saccade serve` with the released models, for the tests that leave it whole."""
    with ServerProcess(["--workers", request.param]) as process:
        process.wait_until_ready(lambda text: None)
        yield process


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real recordings beside the repository, or skip the test."""
    default = REPOSITORY.parent / "shared"
    folder = Path(os.environ.get("SACCADE_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set SACCADE_SHARED)")
    return folder
