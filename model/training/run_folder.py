"""A run's folder: the resolved configuration, metrics as they come, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from model.training.composition import as_yaml


@dataclass(frozen=True)
class RunFolder:
    """A folder of files that outlive the run.

    config.yaml      what `--cfg job` prints
    metrics.jsonl    one line a look at the metrics, one a validation
    best/            the checkpoint with the best validation
    last/            the newest, where the run ended early or had no validation
    """

    path: Path

    @classmethod
    def create(
        cls, output_dir: Path, task: str, values: Mapping[str, Any]
    ) -> RunFolder:
        """Make `output_dir/task/date-time` and save the configuration in it."""
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        path, number = output_dir / task / stamp, 1
        while path.exists():
            number += 1
            path = output_dir / task / f"{stamp}_{number}"
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(as_yaml(values))
        return cls(path)

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The newest weights."""
        return self.path / "last"

    def record(self, **values: str | int | float) -> None:
        """Append one line to the metrics."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")
