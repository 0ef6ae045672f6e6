"""Samples to padded batches of a few fixed shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.types import Events
from saccade.model.training.dataset import Samples

Encode = Callable[[Events], tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]
"""Events to tokens and integration timesteps."""


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
