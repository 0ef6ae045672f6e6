"""Reader of NumPy's files: a structured array of events in a .npy or a .npz.

The array has any fields that `types.as_events` accepts. The formats have no geometry:
a file is scanned once, and the sensor is the events' bounds. Arrays are read in
chunks, never whole, and never unpickled.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Final, TypeAlias
from zipfile import BadZipFile, ZipFile

import numpy as np

from saccade.model.events.errors import (
    EventsError,
    MalformedRecording,
    UnsupportedRecording,
)
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import Findings, Opened, ReadOptions
from saccade.model.events.types import Events, as_events

Bytes: TypeAlias = IO[bytes] | BufferedIOBase

CHUNK_EVENTS: Final = 1 << 16
BAD_ARCHIVE: Final = (BadZipFile, zlib.error, EOFError, RuntimeError)
"""What zipfile raises for an archive that is broken, encrypted or oddly compressed."""
BAD_HEADER: Final = (ValueError, TokenError)
"""What numpy raises for a malformed header."""
MEMBER: Final = "events"
"""The name of the events' array in a .npz of several arrays."""


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a .npy or .npz file.

    Raises:
        MalformedRecording: The file is no NumPy file or is truncated, or its array
            holds no events.
        UnsupportedRecording: A .npz has several arrays, none named "events".
    """
    findings = Findings()
    sensor, origin = choose_sensor(options, findings, lambda: _chunks(path))
    return Opened(sensor, origin, _chunks(path), findings=findings)


def _chunks(path: Path) -> Iterator[Events]:
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                yield from _read(path, file)
            return
        with ZipFile(path) as archive, archive.open(_member(path, archive)) as file:
            yield from _read(path, file)
    except BAD_ARCHIVE as error:
        raise MalformedRecording(path, f"not a readable .npz: {error}") from error


def _member(path: Path, archive: ZipFile) -> str:
    names = archive.namelist()
    if f"{MEMBER}.npy" in names:
        return f"{MEMBER}.npy"
    if len(names) != 1:
        raise UnsupportedRecording(path, f"{len(names)} arrays, none named {MEMBER}")
    return names[0]


def _read(path: Path, file: Bytes) -> Iterator[Events]:
    shape, dtype = _header(path, file)
    if len(shape) != 1 or dtype.hasobject:
        reason = f"an array of shape {shape} and type {dtype}, not a list of events"
        raise MalformedRecording(path, reason)
    for begin in range(0, shape[0], CHUNK_EVENTS):
        wanted = min(CHUNK_EVENTS, shape[0] - begin) * dtype.itemsize
        data = file.read(wanted)
        if len(data) < wanted:
            raise MalformedRecording(path, f"truncated: {shape[0]} events announced")
        try:
            yield as_events(np.frombuffer(data, dtype)).copy()
        except EventsError as error:
            raise MalformedRecording(path, str(error)) from error


def _header(path: Path, file: Bytes) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    except BAD_HEADER as error:
        raise MalformedRecording(path, f"not a .npy array: {error}") from error
    return shape, dtype
