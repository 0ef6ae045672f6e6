"""The schedule of a run: which samples each batch draws, and their crop length.

A run draws groups of batches. The rows of a group have one crop length and are shared
out among its batches by how many events they hold, so that short ones are padded beside
short ones. A group follows from the run's seed and the group's place alone, so a run
may resume anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

GROUP_BATCHES: Final = 4
"""Batches whose rows are drawn together; more of them pad less, and shuffle less."""


class Plan(NamedTuple):
    """The sizes of training batches.

    Attributes:
        crop_events: Lengths of crops; each group of batches has one.
        batch_events: Events in a batch of whole crops: a batch of crops of n events
            has batch_events / n rows.
    """

    crop_events: Sequence[int]
    batch_events: int

    def rows(self, length: int) -> int:
        """Return how many crops of this length a batch holds."""
        return max(self.batch_events // length, 1)

    def steps(self, samples: int) -> int:
        """Return how many batches, on average, hold this many samples."""
        rows = [self.rows(length) for length in self.crop_events]
        return math.ceil(samples / float(np.mean(rows)))


class Group(NamedTuple):
    """Batches to draw together.

    Attributes:
        seed: Of all that is random about them.
        samples: Indices of samples, one for each row of the batches.
        length: Events in a crop, at most.
        rows: In each batch.
    """

    seed: tuple[int, int, int]
    samples: npt.NDArray[np.int64]
    length: int
    rows: int


class BatchPosition(NamedTuple):
    """The place of a batch: the index of its group, and of the batch within it."""

    group: int
    skipped: int


class Schedule:
    """The groups of a whole run, epoch after epoch, each made on access."""

    def __init__(self, plan: Plan, samples: int, epochs: int, seed: int) -> None:
        """Set the sizes.

        Args:
            plan: Sizes of batches.
            samples: Number of training samples.
            epochs: Passes over the samples. Batches of different lengths hold different
                numbers, so a few samples may come twice in a pass, or not at all.
            seed: The run's.
        """
        self.steps = plan.steps(samples)
        self._plan = plan
        self._samples = samples
        self._epochs = epochs
        self._seed = seed
        self._groups = -(-self.steps // GROUP_BATCHES)

    def __len__(self) -> int:
        return self._epochs * self._groups

    def __getitem__(self, place: int) -> Group:
        if not 0 <= place < len(self):
            raise IndexError(place)
        epoch, number = divmod(place, self._groups)
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(self._samples)
        # Every crop length as often as can be, in an order of the epoch's own.
        lengths = np.resize(rng.permutation(self._plan.crop_events), self._groups)
        *before, length = rng.permutation(lengths)[: number + 1].tolist()
        rows = self._plan.rows(length)
        start = GROUP_BATCHES * sum(map(self._plan.rows, before))
        batches = min(GROUP_BATCHES, self.steps - number * GROUP_BATCHES)
        drawn = np.take(order, range(start, start + rows * batches), mode="wrap")
        return Group((self._seed, epoch, number), drawn, length, rows)

    def find(self, epochs: int, batches: int) -> BatchPosition:
        """Return the place of the batch after so many epochs and batches."""
        whole, skipped = divmod(batches, GROUP_BATCHES)
        return BatchPosition(epochs * self._groups + whole, skipped)
