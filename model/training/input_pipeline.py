"""Samples to padded batches of a few fixed shapes, drawn ahead of the device by grain.

A group of batches depends on its place in the schedule alone, so neither the number of
workers nor the place where a run resumes changes what it learns from.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import grain
import numpy as np
import numpy.typing as npt
from absl import flags

from saccade.model.events.types import Events
from saccade.model.training.augmentation import Augment, crop, mix
from saccade.model.training.dataset import Samples
from saccade.model.training.schedule import (
    GROUP_BATCHES,
    BatchPosition,
    Group,
    Schedule,
)

Encode = Callable[[Events], tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]
"""Events to tokens and integration timesteps, ms."""


class Batch(NamedTuple):
    """Rows padded to one length.

    Attributes:
        tokens: (b, l).
        dt_ms: Integration timesteps, (b, l), ms.
        lengths: Tokens in each row, (b,); padding follows them.
        targets: Class probabilities, (b, c).
        weights: 1 for a sample, 0 for a row that only fills the batch, (b,).
    """

    tokens: npt.NDArray[np.int32]
    dt_ms: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int32]
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


def evaluation_batches(
    samples: Samples, classes: int, batch_events: int, tick_events: int, encode: Encode
) -> Iterator[Batch]:
    """Yield every sample whole and once, shortest first.

    Lengths round up to a power of two of ticks, so that the number of shapes is the
    logarithm of the longest; rows that only fill a batch have weight 0.

    Args:
        samples: What to evaluate.
        classes: Number of classes.
        batch_events: Events in a batch, padding included.
        tick_events: Events in a tick.
        encode: Events to tokens.
    """
    eye = np.eye(classes, dtype=np.float32)
    sizes = np.array([bucket(e.size, tick_events) for e in samples.events])
    for length in np.unique(sizes):
        members = np.flatnonzero(sizes == length)
        rows = max(batch_events // int(length), 1)
        for start in range(0, members.size, rows):
            chosen = members[start : start + rows]
            filled = np.resize(chosen, rows)
            weights = (np.arange(rows) < chosen.size).astype(np.float32)
            events = [samples.events[int(i)] for i in filled]
            targets = eye[samples.labels[filled]]
            yield pad(events, targets, weights, int(length), encode)


def bucket(size: int, tick_events: int) -> int:
    """Round a number of events up to a power of two of ticks."""
    ticks = max(-(-size // tick_events), 1)
    return int(tick_events * (1 << (ticks - 1).bit_length()))


def pad(
    events: Sequence[Events],
    targets: npt.NDArray[np.float32],
    weights: npt.NDArray[np.float32],
    length: int,
    encode: Encode,
) -> Batch:
    """Encode rows and pad them to `length` with token 0 and no time."""
    tokens = np.zeros((len(events), length), dtype=np.int32)
    dt_ms = np.zeros((len(events), length), dtype=np.float32)
    lengths = np.zeros(len(events), dtype=np.int32)
    for i, row in enumerate(events):
        row_tokens, row_dt_ms = encode(row)
        lengths[i] = row_tokens.size
        tokens[i, : lengths[i]], dt_ms[i, : lengths[i]] = row_tokens, row_dt_ms
    return Batch(tokens, dt_ms, lengths, targets.astype(np.float32), weights)


class LoadOptions(NamedTuple):
    """Where batches are drawn, and how far ahead.

    Attributes:
        processes: Worker processes; 0 draws in a thread of this process.
        batches_ahead: Batches that wait for the device, at least one group.
    """

    processes: int
    batches_ahead: int


@dataclass(frozen=True, repr=False)
class DrawBatches:
    """The function from a group of the schedule to its batches.

    Attributes:
        samples: Of the training split; a group's indices refer to them.
        classes: Number of classes.
        mix: Probability that a part of a sample comes from another one.
        augment: Applied to each sample before it is cropped.
        encode: Events to tokens.
        tick_events: Events in a tick: padded lengths are whole ticks.
    """

    samples: Samples
    classes: int
    mix: float
    augment: Augment
    encode: Encode
    tick_events: int

    def __call__(self, group: Group) -> list[Batch]:
        """Draw all rows, and batch those of about the same length together."""
        rng = np.random.default_rng(group.seed)
        indices = group.samples.tolist()
        drawn = [self._row(index, group.length, rng) for index in indices]
        by_size = np.argsort([events.size for events, _ in drawn], kind="stable")
        parts = rng.permutation(by_size.reshape(-1, group.rows))
        return [self._batch([drawn[i] for i in part], group.length) for part in parts]

    def _row(
        self, index: int, length: int, rng: np.random.Generator
    ) -> tuple[Events, npt.NDArray[np.float32]]:
        """Return one augmented crop and its class probabilities."""
        samples = self.samples
        events, share = self.augment(samples.events[index], rng), 1.0
        target = np.zeros(self.classes, dtype=np.float32)
        if rng.random() < self.mix:
            other = int(rng.integers(len(samples.events)))
            events, share = mix(events, self.augment(samples.events[other], rng), rng)
            target[samples.labels[other]] += 1.0 - share
        target[samples.labels[index]] += share
        return crop(events, rng, length=length), target

    def _batch(
        self, rows: list[tuple[Events, npt.NDArray[np.float32]]], length: int
    ) -> Batch:
        events = [events for events, _ in rows]
        longest = max(row.size for row in events)
        padded = padded_length(longest, length, self.tick_events)
        weights = np.ones(len(rows), dtype=np.float32)
        targets = np.stack([target for _, target in rows])
        return pad(events, targets, weights, padded, self.encode)


def padded_length(size: int, crop_events: int, tick_events: int) -> int:
    """Return the shortest length to pad to that holds so many events.

    A crop's lengths are itself, 3/4 and 1/2 of it, and so on by halves, in whole ticks:
    each at most 1.5 times the next, but for the rounding, and each a shape to compile.

    Args:
        size: Events, at most `crop_events`.
        crop_events: Whole ticks.
        tick_events: Events in a tick.
    """
    whole = crop_events // tick_events
    ticks = (
        -(-whole * quarters // (4 << halvings))
        for halvings in reversed(range(whole.bit_length() + 1))
        for quarters in (3, 4)
    )
    return next(n * tick_events for n in ticks if n * tick_events >= size)


def training_batches(
    schedule: Schedule, draw: DrawBatches, first: BatchPosition, options: LoadOptions
) -> Generator[Batch, None, None]:
    """Yield a run's batches from one of them to the end of the last epoch.

    An error while drawing is raised here. Closing the generator ends the workers.

    Args:
        schedule: Of the whole run.
        draw: From a group to its batches.
        first: The first batch to yield.
        options: Where batches are drawn, and how far ahead.
    """
    if not flags.FLAGS.is_parsed():  # grain reads its flags, of no command line
        flags.FLAGS.mark_as_parsed()
    groups = grain.MapDataset.source(schedule)[first.group :].map(draw)
    ahead = max(options.batches_ahead // GROUP_BATCHES, 1)
    if options.processes:
        workers = grain.MultiprocessingOptions(options.processes, ahead)
        drawn = groups.to_iter_dataset(grain.ReadOptions(0, 0)).mp_prefetch(workers)
    else:
        drawn = groups.to_iter_dataset(grain.ReadOptions(1, ahead))
    batches, skipped = iter(drawn), first.skipped
    try:
        for group in batches:
            yield from group[skipped:]
            skipped = 0
    finally:
        batches.close()
