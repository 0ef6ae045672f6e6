"""A run's folder: its configuration, origin, metrics, checkpoints and saved state."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from saccade.model.training.config import as_yaml
from saccade.model.training.errors import InvalidSetting


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    config.yaml      the resolved configuration, as `--cfg job` prints it
    run.json         command, git hash, versions of packages
    metrics.jsonl    one line a report of training, one a validation
    speed.jsonl      events/s and seconds, which differ from run to run
    metrics.csv, curves.png    the same as a table and as curves, written at the end
    best/            the checkpoint with the best validation
    last/            the newest, where the run ended early or had no validation
    state/           the state to resume from (`checkpointing`)
    diverged.npz     the batch whose loss was not finite
    wandb/, wandb_id files of Weights & Biases, and the run's id there
    """

    path: Path

    @classmethod
    def create(
        cls,
        output_dir: Path,
        task: str,
        values: Mapping[str, Any],
        origin: Mapping[str, Any],
    ) -> RunFolder:
        """Make `output_dir/task/date-time` and save the configuration in it.

        In a SLURM job the folder's name ends in the job's number.
        """
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        if job := os.environ.get("SLURM_JOB_ID"):
            stamp += f"_job{job}"
        path, number = output_dir / task / stamp, 1
        while path.exists():
            number += 1
            path = output_dir / task / f"{stamp}_{number}"
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(as_yaml(values))
        (path / "run.json").write_text(json.dumps(origin, indent=1) + "\n")
        return cls(path)

    @classmethod
    @contextmanager
    def temporary(cls, resumed: Path | None) -> Iterator[RunFolder]:
        """Yield a folder that is deleted at the end, for processes after the first.

        Args:
            resumed: Folder of the run to resume; its copy holds the state to read.
        """
        with TemporaryDirectory(prefix="saccade-") as name:
            path = Path(name) / "run"
            if resumed is None:
                path.mkdir()
            else:
                shutil.copytree(resumed, path, symlinks=True)
            yield cls(path)

    def record_resumption(self, origin: Mapping[str, Any]) -> dict[str, Any]:
        """Add this process to the run's origin, and return the origin.

        Raises:
            InvalidSetting: `run.json` is missing or damaged.
        """
        file = self.path / "run.json"
        try:
            begun: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise InvalidSetting("resume", f"{file} cannot be read: {error}") from error
        later = {k: v for k, v in origin.items() if k in {"git", "python", "packages"}}
        begun["continued"] = [*begun.get("continued", []), later]
        file.write_text(json.dumps(begun, indent=1) + "\n")
        return begun

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The newest weights."""
        return self.path / "last"

    @property
    def metrics(self) -> Path:
        """One JSON line a report; equal for two runs of one configuration."""
        return self.path / "metrics.jsonl"

    @property
    def state(self) -> Path:
        """The state to resume from."""
        return self.path / "state"

    @property
    def diverged(self) -> Path:
        """The batch whose loss was not finite."""
        return self.path / "diverged.npz"

    @property
    def wandb_id(self) -> Path:
        """The run's id at Weights & Biases, where it is logged there."""
        return self.path / "wandb_id"

    def record(self, **values: str | int | float) -> None:
        """Append one line to the metrics."""
        _append(self.metrics, values)

    def record_speed(self, **values: str | int | float) -> None:
        """Append one line to the speeds, which depend on the machine."""
        _append(self.path / "speed.jsonl", values)

    def metrics_bytes(self) -> int:
        """Return the length of the metrics, to truncate to on resumption."""
        return self.metrics.stat().st_size if self.metrics.is_file() else 0

    def cut_metrics(self, size: int) -> None:
        """Truncate the metrics to their first `size` bytes."""
        if self.metrics.is_file():
            with self.metrics.open("r+b") as file:
                file.truncate(size)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the metrics, one dictionary a line."""
        if not self.metrics.is_file():
            return []
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]


def _append(file: Path, values: Mapping[str, str | int | float]) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(values) + "\n")


PACKAGES: Final = ("saccade", "jax", "jaxlib", "flax", "optax", "numpy")


def provenance(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the command, code and packages of this process as plain JSON values.

    Args:
        command: The sub-command, such as `train`.
        arguments: Of the sub-command.
    """
    return {
        "command": f"saccade {command} {shlex.join(arguments)}".strip(),
        "git": git_hash(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_hash() -> str | None:
    """Return the code's commit, with `-dirty` if files were changed since."""
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
