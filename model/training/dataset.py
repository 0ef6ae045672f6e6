"""Tasks and their samples, and the hold-out split that validates a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

Split = Literal["train", "validation", "test"]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LazyRecordings:
    """Recordings that are read anew at each access.

    Attributes:
        places: The place of each recording, as `read` takes it.
        read: From a place to its events, in time order, at least one.
    """

    places: Sequence[Any]
    read: Callable[[Any], Events]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Events:
        return self.read(self.places[index])

    def __iter__(self) -> Iterator[Events]:
        return map(self.read, self.places)

    def take(self, indices: Indices) -> LazyRecordings:
        """Return the recordings at these indices, in their order, without reading."""
        return LazyRecordings([self.places[i] for i in indices], self.read)


class Samples(NamedTuple):
    """Recordings, in memory or on disk, each with the index of its class."""

    events: list[Events] | LazyRecordings
    labels: Labels

    def take(self, indices: Indices) -> Samples:
        """Return the samples at these indices, in their order."""
        if isinstance(self.events, LazyRecordings):
            return Samples(self.events.take(indices), self.labels[indices])
        return Samples([self.events[i] for i in indices], self.labels[indices])


@dataclass(frozen=True)
class Task:
    """A data set with its classes and its sensor.

    Attributes:
        name: As on the command line.
        labels: Class names; a sample's label is an index into them.
        sensor: The geometry that events are recorded with.
        source: Origin and licence of the data, in one line.
        load: From a split to its samples. `test` is for evaluation alone;
            `validation` is held out from the training data.
    """

    name: str
    labels: tuple[str, ...]
    sensor: Sensor
    source: str
    load: Callable[[Split], Samples]


def hold_out(labels: Labels, share: float, seed: int = 0) -> tuple[Indices, Indices]:
    """Split indices in two, with the same share of every class held out.

    The choice depends on the labels and `seed` alone, never on a run's own seed:
    every run of a task is validated on the same samples.

    Args:
        labels: One class index a sample.
        share: Share of each class to hold out, in [0, 1); at least one sample of
            a class where the share is not 0 and the class has two.
        seed: Of the choice.

    Returns:
        Indices to train on and indices held out, each ascending.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(labels.size, dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: _held_count(members.size, share)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _held_count(members: int, share: float) -> int:
    if share <= 0 or members < 2:
        return 0
    return min(max(round(share * members), 1), members - 1)


def load_split(
    read: Callable[[Literal["train", "test"]], Samples],
    split: Split,
    validation_share: float,
    *,
    validate_on_test: bool = False,
) -> Samples:
    """Return a split of a data set that is published as a train and a test part.

    Args:
        read: From a part to its samples.
        split: The split to return.
        validation_share: Share of the train part to hold out; see `hold_out`.
        validate_on_test: Hold out nothing, and return the test part as `validation`.
    """
    if split == "test" or (split == "validation" and validate_on_test):
        return read("test")
    samples = read("train")
    if validate_on_test:
        return samples
    kept, held = hold_out(samples.labels, validation_share)
    return samples.take(kept if split == "train" else held)


def gather(recordings: Sequence[tuple[Events, int]]) -> Samples:
    """Collect (events, label) pairs, leaving out recordings without events."""
    kept = [(events, label) for events, label in recordings if events.size]
    labels = np.array([label for _, label in kept], dtype=np.int64)
    return Samples([events for events, _ in kept], labels)
