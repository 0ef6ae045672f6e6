"""What happened since the last look at the device's metrics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from saccade.model.training.batches import Batch
from saccade.model.training.display import Report
from saccade.model.training.errors import TrainingDiverged
from saccade.model.training.evaluate import score
from saccade.model.training.learner import Tally


@dataclass
class Meter:
    """Sums tallies and times between two looks; keeps the batches until then.

    Attributes:
        diverged: Where the batch goes that makes the loss no number.
    """

    diverged: Path
    tallies: list[Tally] = field(default_factory=list)
    batches: list[tuple[int, Batch]] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def add(self, step: int, batch: Batch, tally: Tally) -> None:
        """Take in one step; the device is not waited for."""
        self.tallies.append(tally)
        self.batches.append((step, batch))

    def read(self, step: int, epoch: int) -> Report:
        """Wait for the device, and return what happened since the last reading.

        Raises:
            TrainingDiverged: The loss is no longer a number.
        """
        tallies: list[Tally] = jax.device_get(self.tallies)
        self._check(tallies)
        result = score(tallies)
        now = time.perf_counter()
        speed = sum(int(t.events) for t in tallies) / (now - self.since)
        self.tallies, self.batches, self.since = [], [], now
        return Report(step, epoch, result.loss, result.accuracy, speed)

    def pending(self) -> list[list[float]]:
        """Return the tallies since the last reading as plain numbers."""
        tallies: list[Tally] = jax.device_get(self.tallies)
        return [[float(value) for value in tally] for tally in tallies]

    def take_up(self, pending: list[list[float]]) -> None:
        """Go on from what `pending` returned."""
        for loss, correct, rows, events in pending:
            self.tallies.append(
                Tally(
                    loss=jnp.float32(loss),
                    correct=jnp.float32(correct),
                    rows=jnp.float32(rows),
                    events=jnp.int32(events),
                )
            )

    def _check(self, tallies: list[Tally]) -> None:
        fresh = tallies[len(tallies) - len(self.batches) :]
        for (step, batch), tally in zip(self.batches, fresh, strict=True):
            if not math.isfinite(float(tally.loss)):
                np.savez_compressed(self.diverged, **batch._asdict())
                raise TrainingDiverged(step, float(tally.loss), self.diverged)
