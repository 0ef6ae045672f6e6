"""One file of spoken words as spikes of an artificial cochlea, HDF5, 700 channels.

    spikes/times[i]   seconds        labels[i]     index of the word
    spikes/units[i]   channel        extra/keys    the words, in the labels' order

Source:
    Cramer et al. 2022, doi 10.1109/TNNLS.2020.3044364.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.training.dataset import LazyRecordings, Samples
from saccade.model.training.errors import MalformedDataSet

COCHLEA: Final = Sensor(700, 1, polarities=1)


def read_words(path: Path) -> tuple[str, ...]:
    """Return the classes of a file, in the order of its labels.

    Raises:
        MalformedDataSet: The file has no classes, or is no HDF5 file.
    """
    with _opened(path) as file:
        words = _dataset(path, file, "extra/keys")[:]
    return tuple(w.decode() if isinstance(w, bytes) else str(w) for w in words)


def read_file(path: Path) -> Samples:
    """Open a file; a recording is read at each access.

    Raises:
        MalformedDataSet: The file is no HDF5 file, or its parts contradict each other.
    """
    file = _opened(path)
    times = _dataset(path, file, "spikes/times")
    units = _dataset(path, file, "spikes/units")
    labels = np.asarray(_dataset(path, file, "labels")[:], np.int64)
    if not len(times) == len(units) == labels.size:
        reason = f"{len(times)} times, {len(units)} units and {labels.size} labels"
        raise MalformedDataSet(path, reason)
    words = len(_dataset(path, file, "extra/keys"))
    if labels.size and not 0 <= labels.min() <= labels.max() < words:
        reason = f"labels {labels.min()} to {labels.max()} for {words} words"
        raise MalformedDataSet(path, reason)
    return Samples(LazyRecordings(range(labels.size), SpikeReader(path)), labels)


class SpikeReader:
    """Reads a file's recordings; each process that unpickles it opens the file anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spikes: tuple[Any, Any] | None = None

    def __getstate__(self) -> Path:
        return self._path

    def __setstate__(self, path: Path) -> None:
        self._path, self._spikes = path, None

    def __call__(self, index: int) -> Events:
        """Read one recording, in time order, the first spike at 0 µs."""
        seconds, channels = self._read(index)
        t_us = np.rint(seconds * 1e6).astype(np.int64)
        order = np.argsort(t_us, kind="stable")
        events = np.zeros(t_us.size, EVENT_DTYPE)
        events["t"] = t_us[order] - t_us[order[0]]
        events["x"] = channels[order]
        return events

    def _read(self, index: int) -> tuple[Any, Any]:
        """Return a recording's seconds and channels, both checked."""
        if self._spikes is None:
            file = _opened(self._path)
            times = _dataset(self._path, file, "spikes/times")
            self._spikes = times, _dataset(self._path, file, "spikes/units")
        try:
            seconds, channels = (part[index] for part in self._spikes)
        except OSError as error:
            raise self._malformed(index, f"cannot be read: {error}") from error
        seconds = seconds.astype(np.float64)
        if not seconds.size or seconds.shape != channels.shape:
            reason = f"has {seconds.size} times, {channels.size} units"
            raise self._malformed(index, reason)
        if not np.isfinite(seconds).all() or channels.max() >= COCHLEA.width:
            reason = "has a channel above 699 or a time that is none"
            raise self._malformed(index, reason)
        return seconds, channels

    def _malformed(self, index: int, reason: str) -> MalformedDataSet:
        return MalformedDataSet(self._path, f"recording {index} {reason}")


def _opened(path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise MalformedDataSet(path, f"no readable HDF5 file: {error}") from error


def _dataset(path: Path, file: Any, name: str) -> Any:
    if not isinstance(file.get(name), h5py.Dataset):
        raise MalformedDataSet(path, f"it has no data set {name}")
    return file[name]
