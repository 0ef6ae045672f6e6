"""Reader of NumPy's files: the events of a .npy or a .npz.

Events are a structured array, a plain array of shape (n, 4) or (4, n), or, in a .npz,
one array for each of t, x, y and p. The formats have no geometry: unless the caller
has one, a file is scanned once. Arrays are read in chunks, never whole, and never
unpickled.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import SEEK_CUR, BufferedIOBase
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Final, NamedTuple, TypeAlias
from zipfile import BadZipFile, ZipFile

import numpy as np

from saccade.model.events.errors import (
    EventsError,
    MalformedRecording,
    NotEvents,
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
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import (
    Findings,
    Opened,
    ReadOptions,
    WhenTruncated,
)
from saccade.model.events.types import Events

Bytes: TypeAlias = IO[bytes] | BufferedIOBase

CHUNK_EVENTS: Final = 1 << 16
GUESS_EVENTS: Final = 4096
"""How many events decide which column is which."""
BAD_ARCHIVE: Final = (
    BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
)
"""What zipfile raises for an archive that is broken, encrypted or oddly compressed."""
BAD_HEADER: Final = (ValueError, TokenError)
"""What numpy raises for a malformed header."""
MEMBERS: Final = ("events", "event_data", "data", "arr_0")
"""The names of the events' array in a .npz of several arrays."""
COLUMNS: Final = 4
MAX_ROW_BYTES: Final = 4096
MAX_MEMBERS: Final = 1000


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]


class _Part(NamedTuple):
    """Rows of a file, each of `width` items side by side.

    Attributes:
        member: The array's name in a .npz; empty in a .npy.
        skip: The bytes between the array's header and the first row.
        dtype: The type of an item; its fields are columns where it has some.
        width: The items in a row.
    """

    member: str
    skip: int
    dtype: np.dtype[Any]
    width: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * self.width


class _Table(NamedTuple):
    """The columns of a file, in parts of `length` rows each, and their names."""

    parts: Sequence[_Part]
    length: int
    names: Sequence[str] | None


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a .npy or .npz file.

    Raises:
        MalformedRecording: The file is no NumPy file or is truncated, or its array
            holds no events.
        UnsupportedRecording: A .npz has several arrays, and none are the events.
    """
    findings = Findings()
    with _errors_named(path):
        table = _find_table(path)
        names = options.columns or table.names
        if names:
            layout = find_layout(names)
        else:
            rows = _rows(path, table, "read", Findings(), GUESS_EVENTS)
            layout = guess_layout(next(rows, []), findings)
    scan = partial(_events, path, table, layout, options.truncated)
    sensor, origin = choose_sensor(options, findings, lambda: scan(Findings()))
    return Opened(sensor, origin, scan(findings), findings=findings)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn what zipfile raises, and errors about events, into MalformedRecording."""
    try:
        yield
    except BAD_ARCHIVE as error:
        raise MalformedRecording(path, f"not a readable .npz: {error}") from error
    except RecordingError:
        raise
    except EventsError as error:
        raise MalformedRecording(path, f"an array of no events: {error}") from error


def _events(
    path: Path,
    table: _Table,
    layout: Layout,
    truncated: WhenTruncated,
    findings: Findings,
) -> Iterator[Events]:
    converter = Converter(findings, layout.unit_us)
    places = layout.places
    with _errors_named(path):
        for columns in _rows(path, table, truncated, findings, CHUNK_EVENTS):
            if max(places.values()) >= len(columns):
                raise NotEvents(f"{len(columns)} columns are fewer than were named")
            yield converter.convert({name: columns[at] for name, at in places.items()})


def _rows(
    path: Path,
    table: _Table,
    truncated: WhenTruncated,
    findings: Findings,
    size: int,
) -> Iterator[list[Column]]:
    """Yield all columns, `size` rows at a time."""
    with ExitStack() as stack:
        opener = _open_members(path, stack)
        files = [opener(part.member) for part in table.parts]
        for file, part in zip(files, table.parts, strict=True):
            _header(path, file)
            file.seek(part.skip, SEEK_CUR)
        for begin in range(0, table.length, size):
            count = min(size, table.length - begin)
            pieces = [
                (part, file.read(count * part.row_bytes))
                for file, part in zip(files, table.parts, strict=True)
            ]
            whole = min(len(data) // part.row_bytes for part, data in pieces)
            if whole < count:
                reason = f"truncated: {table.length} events announced"
                if truncated == "refuse":
                    raise MalformedRecording(path, reason)
                findings.warn(f"{reason}, {begin + whole} are there")
            yield [c for part, data in pieces for c in _split(part, data, whole)]
            if whole < count:
                return


def _split(part: _Part, data: bytes, rows: int) -> list[Column]:
    array = np.frombuffer(data, part.dtype, rows * part.width)
    if part.dtype.names:
        return [array[name] for name in part.dtype.names]
    return list(array.reshape(rows, part.width).T)


def _open_members(path: Path, stack: ExitStack) -> Callable[[str], Bytes]:
    """Return a function that opens one of a file's arrays, until the stack's end."""
    if path.suffix.lower() == ".npy":
        return lambda _: stack.enter_context(path.open("rb"))
    archive = stack.enter_context(ZipFile(path))
    return lambda member: stack.enter_context(archive.open(member))


def _find_table(path: Path) -> _Table:
    """Find the arrays of a file that hold the events.

    Raises:
        MalformedRecording: An array's header is malformed.
        NotEvents: The array's shape or type is no events'.
        UnsupportedRecording: A .npz has several arrays, and none are the events.
    """
    with ExitStack() as stack:
        opener = _open_members(path, stack)
        if path.suffix.lower() == ".npy":
            return _whole_table("", _header(path, opener("")))
        with ZipFile(path) as archive:
            names = archive.namelist()[:MAX_MEMBERS]
        headers = {name: _header(path, opener(name)) for name in names}
    by_name = {name.removesuffix(".npy"): name for name in names}
    with suppress(NotEvents):
        return _column_table(by_name, headers)
    member = next((by_name[name] for name in MEMBERS if name in by_name), None)
    if member is None and len(names) != 1:
        reason = f"{len(names)} arrays, none named {MEMBERS[0]}: {', '.join(by_name)}"
        raise UnsupportedRecording(path, reason[:200])
    member = member or names[0]
    return _whole_table(member, headers[member])


def _column_table(by_name: Mapping[str, str], headers: Mapping[str, _Header]) -> _Table:
    """Describe a .npz with an array for each column."""
    names = list(by_name)
    places = find_layout(names).places
    members = [by_name[names[at]] for at in places.values()]
    for member in members:
        _check_column(headers[member].shape, headers[member].dtype)
    lengths = {headers[member].shape[0] for member in members}
    if len(lengths) != 1:
        raise NotEvents(f"its columns have the lengths {sorted(lengths)}")
    parts = [_Part(member, 0, headers[member].dtype, 1) for member in members]
    return _Table(parts, lengths.pop(), [names[at] for at in places.values()])


def _check_column(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if len(shape) != 1 or dtype.kind not in "iubfmM":
        raise NotEvents(f"shape {shape} and type {dtype}")


def _whole_table(member: str, header: _Header) -> _Table:
    """Describe one array that holds all columns.

    Raises:
        NotEvents: The array's shape or type is no events'.
    """
    shape, is_fortran, dtype = header
    if len(shape) == 1 and dtype.names and dtype.itemsize <= MAX_ROW_BYTES:
        return _Table([_Part(member, 0, dtype, 1)], shape[0], dtype.names)
    if len(shape) != 2 or COLUMNS not in shape or dtype.kind not in "iubf":
        raise NotEvents(f"shape {shape} and type {dtype}")
    length = shape[0] if shape[1] == COLUMNS else shape[1]
    if (shape[1] == COLUMNS) != is_fortran:
        return _Table([_Part(member, 0, dtype, COLUMNS)], length, None)
    column_bytes = length * dtype.itemsize
    parts = [_Part(member, at * column_bytes, dtype, 1) for at in range(COLUMNS)]
    return _Table(parts, length, None)


def _header(path: Path, file: Bytes) -> _Header:
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(file)
        else:
            header = np.lib.format.read_array_header_2_0(file)
    except BAD_HEADER as error:
        raise MalformedRecording(path, f"not a .npy array: {error}") from error
    found = _Header(*header)
    if min(found.shape, default=0) < 0 or found.dtype.hasobject:
        reason = f"an array of shape {found.shape} and type {found.dtype}"
        raise MalformedRecording(path, reason)
    return found
