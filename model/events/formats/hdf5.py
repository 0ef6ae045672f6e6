"""Reader of HDF5 files, wherever in them the events are.

Each of these is a camera: a group with a data set for each of t, x, y and p (DSEC, RVT,
TUM-VIE, M3ED), a data set of records (Metavision, with ECF or without), and a data set
of shape (n, 4) whose name has `event` in it (v2e, MVSEC). The geometry is Metavision's
attribute `geometry`, or what stands as `height` and `width`, `resolution` or
`sensor_resolution` beside the events.

`h5py` reads the files, with the compressions of `hdf5plugin` where that is installed.
ECF is read without Prophesee's plugin, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.model.events.encodings import ecf
from saccade.model.events.errors import (
    EventsError,
    MalformedRecording,
    NotEvents,
    ReaderMissing,
    RecordingError,
    UnsupportedRecording,
)
from saccade.model.events.formats.columns import (
    Column,
    Converter,
    Layout,
    find_layout,
    guess_layout,
)
from saccade.model.events.geometry import Known, choose_sensor
from saccade.model.events.reading import (
    MOST_TRIGGERS,
    Findings,
    Opened,
    ReadOptions,
    Trigger,
    choose_camera,
    end_early,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

CHUNK_EVENTS: Final = 1 << 16
GUESS_EVENTS: Final = 4096
MAX_CHUNK_BYTES: Final = 1 << 27
"""The largest chunk of a data set that is read; it is decompressed whole."""
MOST_OBJECTS: Final = 10_000
TRIGGERS: Final = "EXT_TRIGGER/events"
BAD_FILE: Final = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError,
)  # fmt: skip
"""What h5py raises for a file that is broken."""


@dataclass(frozen=True)
class _Camera:
    """The data sets of one camera's events.

    Attributes:
        name: The path of the group or data set.
        parts: The paths of the data sets, each of one or more columns.
        names: The columns' names; None where they have none.
        length: The number of events that are announced.
        stored: The number of events that are there.
    """

    name: str
    parts: tuple[str, ...]
    names: tuple[str, ...] | None
    length: int
    stored: int


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an HDF5 file.

    Raises:
        MalformedRecording: The file is broken or truncated.
        ReaderMissing: `h5py` is not installed.
        UnsupportedRecording: It holds no events that are known as such, or they are
            compressed in a way that is not installed.
    """
    findings = Findings()
    with _opened(path) as file:
        cameras = _find_cameras(path, file)
        names = tuple(camera.name for camera in cameras)
        camera = cameras[choose_camera(path, names, options, findings)]
        cache_bytes = _check_readable(path, file, camera)
        layout = _layout(file, camera, options, findings)
        sensor = _stated_sensor(file, camera)
        _read_triggers(file, findings)
    if camera.stored < camera.length:
        where = f"{camera.length} events announced, {camera.stored} are there"
        end_early(path, where, options, findings)
    known: Known = (sensor, "header") if sensor else None
    scan = partial(_events, path, camera, layout, cache_bytes)
    chosen, origin = choose_sensor(options, findings, lambda: scan(Findings()), known)
    names = (camera.name, *(name for name in names if name != camera.name))
    return Opened(chosen, origin, scan(findings), names, findings)


@contextmanager
def _opened(path: Path, cache_bytes: int = 1 << 20) -> Iterator[Any]:
    """Open a file with h5py, and turn what h5py raises into MalformedRecording.

    Args:
        path: The file.
        cache_bytes: For the chunks of each data set; a larger one is decompressed
            anew for each read from it.
    """
    try:
        import h5py
    except ImportError as error:
        raise ReaderMissing("h5py", "hdf5") from error
    with suppress(ImportError):
        import_module("hdf5plugin")
    try:
        with h5py.File(path, "r", rdcc_nbytes=cache_bytes, locking=False) as file:
            yield file
    except RecordingError:
        raise
    except EventsError as error:
        raise MalformedRecording(path, str(error)) from error
    except BAD_FILE as error:
        raise MalformedRecording(path, f"not readable as HDF5: {error}") from error


def _find_cameras(path: Path, file: Any) -> list[_Camera]:
    """Find all events in a file, in the order of their names.

    Raises:
        UnsupportedRecording: There are none.
    """
    cameras, seen = _cameras_in_group(file), []

    def visit(name: str, member: Any) -> bool | None:
        seen.append(name)
        found = _cameras_in_group if hasattr(member, "keys") else _camera_in_data
        cameras.extend(found(member))
        return True if len(seen) >= MOST_OBJECTS else None

    file.visititems(visit)
    if not cameras:
        reason = f"it holds no events that are known as such: {', '.join(seen)[:200]}"
        raise UnsupportedRecording(path, reason)
    return cameras


def _cameras_in_group(group: Any) -> list[_Camera]:
    columns = {
        name: member
        for name in group
        if (member := _member(group, name)) is not None
        and len(getattr(member, "shape", None) or ()) == 1
    }
    try:
        places = find_layout(list(columns)).places
    except NotEvents:
        return []
    parts = [list(columns)[at] for at in places.values()]
    data = [columns[name] for name in parts]
    if len({member.shape for member in data}) != 1:
        return []
    stored = min(map(_stored_rows, data))
    return [
        _Camera(
            group.name.strip("/") or "/",
            tuple(member.name for member in data),
            tuple(parts),
            data[0].shape[0],
            stored,
        )
    ]


def _camera_in_data(data: Any) -> list[_Camera]:
    names, shape = getattr(data.dtype, "names", None), tuple(data.shape or ())
    if not _is_own(data):
        return []
    if names and len(shape) == 1:
        try:
            find_layout(names)
        except NotEvents:
            return []
    elif len(shape) != 2 or shape[-1] != 4 or "event" not in data.name.lower():
        return []
    camera, length = data.name.strip("/"), int(data.shape[0])
    return [_Camera(camera, (data.name,), names, length, _stored_rows(data))]


def _member(group: Any, path: str) -> Any:
    """Return the group or data set at a path; None where there is none.

    A link is not followed: it may lead to another file, of whoever reads this one.
    """
    h5py = import_module("h5py")
    for name in path.split("/"):
        if not isinstance(group, h5py.Group):
            return None
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            return None
        group = group[name]
    return group if isinstance(group, h5py.Group) or _is_own(group) else None


def _is_own(data: Any) -> bool:
    """Whether the values of a data set are in its own file."""
    inside = not getattr(data, "external", None)
    return inside and not getattr(data, "is_virtual", False)


def _stored_rows(data: Any) -> int:
    """Return how many rows a data set has room for in the file, at most its own.

    A broken file may announce any number, and what is not there reads as zeros.
    """
    if data.chunks is None:
        row_bytes = data.dtype.itemsize * int(np.prod(data.shape[1:]))
        stored: int = data.id.get_storage_size() // max(row_bytes, 1)
        return min(int(data.shape[0]), stored)
    rows, *widths = data.chunks
    sides = zip(data.shape[1:], widths, strict=True)
    across = int(np.prod([-(-side // width) for side, width in sides]))
    stored = data.id.get_num_chunks() // max(across, 1) * rows
    return min(int(data.shape[0]), stored)


def _check_readable(path: Path, file: Any, camera: _Camera) -> int:
    """Return the size of the largest chunk of a camera's data sets, bytes.

    Raises:
        UnsupportedRecording: A chunk is too large, or compressed in an unknown way.
    """
    largest = 0
    for part in camera.parts:
        data = file[part]
        chunk_bytes = int(np.prod(data.chunks or (0,))) * data.dtype.itemsize
        if chunk_bytes > MAX_CHUNK_BYTES:
            reason = f"{part} has chunks of {chunk_bytes} bytes"
            raise UnsupportedRecording(path, reason)
        for code, name in _filters(data):
            if code != ecf.FILTER and not import_module("h5py").h5z.filter_avail(code):
                reason = (
                    f"{part} is compressed with {name or code}: "
                    "install saccade[hdf5], or the filter's plugin for HDF5"
                )
                raise UnsupportedRecording(path, reason)
        largest = max(largest, chunk_bytes)
    return largest


def _filters(data: Any) -> list[tuple[int, str]]:
    """Return the code and name of each of a data set's compressions."""
    plist = data.id.get_create_plist()
    filters = [plist.get_filter(at) for at in range(plist.get_nfilters())]
    return [(code, name.decode("latin-1")) for code, _, _, name in filters]


def _layout(
    file: Any, camera: _Camera, options: ReadOptions, findings: Findings
) -> Layout:
    names = options.columns or camera.names
    if names:
        return find_layout(names)
    first = _split(file[camera.parts[0]][: min(GUESS_EVENTS, camera.stored)])
    return guess_layout(first, findings)


def _events(
    path: Path, camera: _Camera, layout: Layout, cache_bytes: int, findings: Findings
) -> Iterator[Events]:
    converter = Converter(findings, layout.unit_us)
    with _opened(path, cache_bytes) as file:
        parts = [file[name] for name in camera.parts]
        if _needs_ecf(parts[0]):
            yield from _ecf_events(parts[0], camera.stored)
            return
        for begin in range(0, camera.stored, CHUNK_EVENTS):
            end = min(begin + CHUNK_EVENTS, camera.stored)
            columns = [c for part in parts for c in _split(part[begin:end])]
            places = layout.places.items()
            if max(layout.places.values()) >= len(columns):
                raise NotEvents(f"{len(columns)} columns are fewer than were named")
            yield converter.convert({field: columns[at] for field, at in places})


def _split(rows: Column) -> Sequence[Column]:
    if rows.dtype.names:
        return [rows[name] for name in rows.dtype.names]
    return [rows] if rows.ndim == 1 else list(rows.T)


def _needs_ecf(data: Any) -> bool:
    """Whether a data set is compressed with ECF, and HDF5 has no plugin for it."""
    has_ecf = any(code == ecf.FILTER for code, _ in _filters(data))
    return has_ecf and not import_module("h5py").h5z.filter_avail(ecf.FILTER)


def _ecf_events(data: Any, stored: int) -> Iterator[Events]:
    (rows,) = data.chunks
    for begin in range(0, stored, rows):
        _, block = data.id.read_direct_chunk((begin,))
        yield ecf.decode(block)[: stored - begin]


def _stated_sensor(file: Any, camera: _Camera) -> Sensor | None:
    """Return the geometry that a file states, if any."""
    home = file[camera.parts[0]].parent
    with suppress(*BAD_FILE):
        width, _, height = _text(file.attrs["geometry"]).partition("x")
        return Sensor(int(width), int(height))
    for place in (file[camera.parts[0]], home, home.parent):
        values = {**place.attrs, **_small_members(place)}
        with suppress(*BAD_FILE):
            return Sensor(int(values["width"]), int(values["height"]))
        for name in ("resolution", "sensor_resolution", "calib/resolution"):
            # Some write height and width, some width and height; sensors are wide.
            with suppress(*BAD_FILE):
                sides = sorted(int(side) for side in values[name][:2])
                return Sensor(sides[1], sides[0])
    return None


def _small_members(place: Any) -> dict[str, Any]:
    names = ("width", "height", "resolution", "calib/resolution")
    found = {name: _member(place, name) for name in names}
    return {
        name: data[()]
        for name, data in found.items()
        if hasattr(data, "shape") and np.prod(data.shape or (1,)) <= len(names)
    }


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _read_triggers(file: Any, findings: Findings) -> None:
    """Keep the edges at Metavision's trigger input, unless they cannot be read."""
    data = _member(file, TRIGGERS)
    if data is None:
        return
    try:
        findings.triggers += [
            Trigger(int(row["t"]), int(row["id"]), bool(row["p"]))
            for row in data[:MOST_TRIGGERS]
        ]
    except BAD_FILE as error:
        findings.warn(f"its triggers cannot be read: {error}")
