from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saccade.server.doctor.findings import Subject, subject_of
from saccade.server.settings import resolve_settings

Examined = Callable[..., Subject]


@pytest.fixture
def examined(tmp_path: Path) -> Examined:
    """Return what doctor examines, for some settings and variables."""

    def make(environment: dict[str, str] | None = None, **options: object) -> Subject:
        texts = {name: str(value) for name, value in options.items()}
        texts = {
            "store_path": str(tmp_path / "store" / "sessions"),
            "port": "0",
        } | texts
        resolved = resolve_settings(environment or {}, texts)
        return subject_of(resolved, environment or {})

    return make
