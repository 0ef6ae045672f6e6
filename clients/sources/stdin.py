"""Events from standard input, as another program writes them.

The format is that of the first bytes: a RAW header ("% evt 3.0"), or CSV, whose header
is optional (t,x,y,p without one). Words and packed records have no such beginning:
`stdin?format=evt3`, `evt2` or `packed` (docs/protocol.md) names them.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.source import Source, read_settings
from saccade.model.events.clock import unwrap_sorted
from saccade.model.events.encodings.packed import RECORD_BYTES, unpack
from saccade.model.events.errors import EventsError, RecordingError
from saccade.model.events.formats import raw
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import FIELD_NAMES, Events, as_events

CHUNK_BYTES: Final = 1 << 16
PACKED_TIME_BITS: Final = 32
LONGEST_LINE_BYTES: Final = 1 << 12
LONGEST_HEADER_BYTES: Final = 1 << 16
DEFAULT_COLUMNS: Final = ("t", "x", "y", "p")
PATH: Final = Path("stdin")
"""For the errors of the readers of files."""

Decode: TypeAlias = Callable[["Pipe"], Iterator[Events]]
"""Decodes all that a pipe holds."""


class Pipe:
    """A file descriptor whose first bytes may be read ahead."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ahead = b""

    def read(self) -> bytes:
        """Return what has come, after waiting for at least a byte; b"" at the end."""
        ahead, self._ahead = self._ahead, b""
        return ahead or os.read(self._descriptor, CHUNK_BYTES)

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read next."""
        self._ahead = data + self._ahead

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield all that comes, cut after multiples of `size` bytes.

        Raises:
            UnplayableSource: The pipe ends within `size` bytes.
        """
        rest = b""
        while data := self.read():
            data = rest + data
            whole = len(data) // size * size
            rest = data[whole:]
            if whole:
                yield data[:whole]
        if rest:
            reason = f"it ends within a word or record, after {len(rest)} bytes of it"
            raise UnplayableSource("stdin", reason)


class Format(NamedTuple):
    """What standard input holds: the geometry that its header says, and a decoder."""

    sensor: Sensor | None
    decode: Decode


def open_stdin(
    text: str, sensor: Sensor | None, descriptor: int | None = None
) -> Source:
    """Read events from standard input; its format is detected, or `stdin?format=…`.

    Args:
        text: The source.
        sensor: The geometry, where the input does not say it.
        descriptor: The file descriptor to read instead of standard input's.

    Raises:
        UnplayableSource: The format is none of those above, or not told.
    """
    settings = read_settings(text, text.partition("?")[2], {"format": ""})
    pipe = Pipe(sys.stdin.fileno() if descriptor is None else descriptor)
    name = str(settings["format"])
    if name and name not in NAMED:
        raise UnplayableSource(text, f"the formats are {', '.join(NAMED)}")
    try:
        found = Format(None, NAMED[name]) if name else _detected(text, pipe)
    except RecordingError as error:
        raise UnplayableSource(text, error.reason) from error
    return Source(
        name=text,
        sensor=sensor or found.sensor,
        chunks=found.decode(pipe),
        changes=True,
        live=True,
        findings=Findings(),
    )


def _detected(text: str, pipe: Pipe) -> Format:
    data = pipe.read()
    if not data:
        raise UnplayableSource(text, "it holds nothing")
    if data.startswith(b"%"):
        return _with_header(text, pipe, data)
    pipe.unread(data)
    if data.isascii() and (b"," in data or b"\n" in data):
        return Format(None, _csv)
    known = f"; say stdin?format= one of {', '.join(NAMED)}"
    raise UnplayableSource(text, f"it begins like no text or RAW header{known}")


def _with_header(text: str, pipe: Pipe, data: bytes) -> Format:
    """Read a RAW header, however it was cut, and leave the pipe at the first word."""
    while True:
        file = io.BytesIO(data)
        header = raw.read_header(file)
        rest = data[file.tell() :]
        if not _may_be_header(rest, ended=_ends(data[: file.tell()])):
            pipe.unread(rest)
            break
        more = pipe.read()
        if not more or len(data) > LONGEST_HEADER_BYTES:
            raise UnplayableSource(text, "its RAW header does not end")
        data += more
    encoding = raw.find_encoding(PATH, header, rest)
    return Format(
        raw.find_geometry(PATH, header),
        lambda rest: _words(rest, encoding),
    )


def _ends(header: bytes) -> bool:
    return header[:-1].rpartition(b"\n")[2].strip().lower() == b"% end"


def _may_be_header(rest: bytes, *, ended: bool) -> bool:
    """Return whether the bytes behind the lines so far may begin another line."""
    return not ended and (b"% ".startswith(rest[:2]) and b"\n" not in rest)


def _words(pipe: Pipe, encoding: raw.Encoding) -> Iterator[Events]:
    decoder = encoding.decoder()
    for words in pipe.pieces(encoding.word_bytes):
        yield decoder.decode(words)


def _packed(pipe: Pipe) -> Iterator[Events]:
    newest_us: int | None = None
    for records in pipe.pieces(RECORD_BYTES):
        events = unpack(records, 0)
        events["t"] = unwrap_sorted(events["t"], PACKED_TIME_BITS, newest_us)
        newest_us = int(events["t"][-1])
        yield events


def _csv(pipe: Pipe) -> Iterator[Events]:
    columns: list[int] | None = None
    for lines in _lines(pipe):
        if columns is None:
            columns, lines = _columns(lines)
        rows = [line for line in lines if line.strip()]
        if not rows:
            continue
        try:
            table = np.loadtxt(rows, np.int64, delimiter=",", usecols=columns, ndmin=2)
            yield as_events(table.view([(name, "i8") for name in FIELD_NAMES])[:, 0])
        except (EventsError, ValueError) as error:
            raise UnplayableSource("stdin", f"{rows[0][:60]!r}: {error}") from error


def _lines(pipe: Pipe) -> Iterator[list[str]]:
    """Yield the whole lines of what comes; the last may lack its end."""
    rest = b""
    while data := pipe.read():
        whole, end, last = data.rpartition(b"\n")
        if end:
            yield (rest + whole).decode("ascii", "replace").split("\n")
            rest = last
        else:
            rest += last
        if len(rest) > LONGEST_LINE_BYTES:
            raise UnplayableSource("stdin", "a line of its CSV does not end")
    if rest:
        yield [rest.decode("ascii", "replace")]


def _columns(lines: list[str]) -> tuple[list[int], list[str]]:
    """Return the indices of t, x, y and p, and the lines that are not the header."""
    names = [name.strip().lower() for name in lines[0].split(",")]
    if not any(name.isidentifier() for name in names):
        return list(range(len(DEFAULT_COLUMNS))), lines
    columns = []
    for field, known in FIELD_NAMES.items():
        found = [names.index(name) for name in known if name in names]
        if not found:
            reason = f"its CSV has no column {field} in {lines[0].strip()[:60]!r}"
            raise UnplayableSource("stdin", reason)
        columns.append(found[0])
    return columns, lines[1:]


def _evt(version: str) -> Decode:
    return lambda pipe: _words(pipe, raw.ENCODINGS[version])


NAMED: Final[Mapping[str, Decode]] = {
    "csv": _csv,
    "packed": _packed,
    **{f"evt{version.replace(' ', '-')}": _evt(version) for version in raw.ENCODINGS},
}
"""The decoder of each format's name."""
