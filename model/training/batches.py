"""Samples to padded batches of a few fixed shapes, prepared ahead of the device."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from model.events.types import Events
from model.training.augmentation import Augment, crop, mix
from model.training.dataset import Samples

Encode = Callable[[Events], tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]
"""Events to tokens and integration timesteps."""

T = TypeVar("T")


class Batch(NamedTuple):
    """Rows padded to one length.

    Attributes:
        tokens: (b, l).
        dt_ms: Integration timesteps, (b, l), ms.
        lengths: Tokens in each row, (b,); what follows them is padding.
        targets: Class probabilities, (b, c).
        weights: 1 for a sample, 0 for a row that only fills the batch, (b,).
    """

    tokens: npt.NDArray[np.int32]
    dt_ms: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int32]
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


class Plan(NamedTuple):
    """How training batches are drawn.

    Attributes:
        crop_events: Lengths of crops; each batch draws one.
        batch_events: Events in a batch, padding included.
        mix: Probability of mixing a sample with another.
    """

    crop_events: Sequence[int]
    batch_events: int
    mix: float

    def rows(self, length: int) -> int:
        """Return how many crops of this length a batch holds."""
        return max(self.batch_events // length, 1)

    def steps(self, samples: int) -> int:
        """Return how many batches, on average, hold this many samples."""
        rows = [self.rows(length) for length in self.crop_events]
        return math.ceil(samples / float(np.mean(rows)))


def training_batches(
    samples: Samples,
    classes: int,
    plan: Plan,
    augment: Augment,
    encode: Encode,
    seed: tuple[int, int],
) -> Iterator[Batch]:
    """Yield one epoch's batches: `plan.steps` of them, every length as often.

    Args:
        samples: What to draw from, in an order of this epoch's own; as batches of
            different lengths hold different numbers, a few samples may come twice.
        classes: Number of classes.
        plan: Sizes.
        augment: Applied to each sample before it is cropped.
        encode: Events to tokens.
        seed: The run's seed and the epoch: together they decide everything.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(samples.events))
    lengths = np.resize(rng.permutation(plan.crop_events), plan.steps(order.size))
    start = 0
    for length in rng.permutation(lengths).tolist():
        rows = plan.rows(length)
        chosen = np.take(order, range(start, start + rows), mode="wrap")
        start += rows
        drawn = [
            _draw(samples, i, classes, plan.mix, augment, rng) for i in chosen.tolist()
        ]
        events = [crop(sample, rng, length=length) for sample, _ in drawn]
        targets = np.stack([target for _, target in drawn])
        yield pad(events, targets, np.ones(rows, dtype=np.float32), length, encode)


def _draw(
    samples: Samples,
    index: int,
    classes: int,
    mixing: float,
    augment: Augment,
    rng: np.random.Generator,
) -> tuple[Events, npt.NDArray[np.float32]]:
    """Return one augmented sample and its class probabilities."""
    events, share = augment(samples.events[index], rng), 1.0
    target = np.zeros(classes, dtype=np.float32)
    if rng.random() < mixing:
        other = int(rng.integers(len(samples.events)))
        events, share = mix(events, augment(samples.events[other], rng), rng)
        target[samples.labels[other]] += 1.0 - share
    target[samples.labels[index]] += share
    return events, target


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


def prefetch(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """Draw items in a thread of its own, at most `ahead` of the consumer.

    An exception in the thread comes out here. A consumer that stops early
    closes this generator, and the thread ends.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not _offer(ready, (item, None), stopped):
                    return
        except BaseException as caught:
            error = caught
        _offer(ready, (None, error), stopped)

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _offer(
    ready: queue.Queue[tuple[T | None, BaseException | None]],
    entry: tuple[T | None, BaseException | None],
    stopped: threading.Event,
) -> bool:
    """Put an entry unless the consumer has left; say whether it was put."""
    while not stopped.is_set():
        try:
            ready.put(entry, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
