"""Reader of text tables of events: commas, semicolons, tabs or blanks between values.

Before the rows there may be a byte-order mark, comments (# or %), a line with width
and height, and a header. Columns are found by the caller's names or the header's, else
by what they hold (`columns.guess_layout`). A comment may give the geometry
(`%geometry:1280,720`), as may a header (`t,x@240,y@180,on`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.model.events.errors import MalformedRecording, NotEvents
from saccade.model.events.formats.columns import (
    Column,
    Converter,
    Layout,
    find_layout,
    guess_layout,
)
from saccade.model.events.geometry import Known, choose_sensor, parse_sensor
from saccade.model.events.reading import (
    Findings,
    Opened,
    ReadOptions,
    WhenTruncated,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

CHUNK_LINES: Final = 1 << 15
FIRST_LINES: Final = 4096
"""How many lines decide how a table is read."""
MAX_LINE: Final = 1024
DELIMITERS: Final = (",", "\t", ";", None)
"""What separates a row's values; None is any number of blanks."""
COMMENTS: Final = ("#", "%")
WORDS: Final = {"true": "1", "false": "0", "on": "1", "off": "0"}
"""Polarities in words."""
WORD: Final = re.compile(r"\b(?:true|false|on|off)\b", re.IGNORECASE)
GEOMETRY: Final = re.compile(r"geometry\W+(\d+)\W*[,x ]\W*(\d+)", re.IGNORECASE)
SIZE: Final = re.compile(r"\s*(\d+)[\s,;x]+(\d+)\s*")


@dataclass(frozen=True)
class _Table:
    """How a file's rows are read; `skip` lines come before the first."""

    delimiter: str | None
    layout: Layout
    skip: int


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a text table.

    Raises:
        MalformedRecording: A column is missing, or a line holds something else than
            an event; names the first line of the line's chunk.
    """
    findings = Findings()
    lines = list(islice(_lines(path), FIRST_LINES))
    before = _count_before(lines)
    try:
        table = _inspect(lines, before, options, findings)
    except NotEvents as error:
        raise MalformedRecording(path, error.reason) from error
    except ValueError as error:
        raise _malformed(path, before + 1, error) from error
    stated = table.layout.sensor or _stated_sensor(path, lines[:before])
    known: Known = (stated, "header") if stated else None
    scan = partial(_chunks, path, table, options.truncated)
    sensor, origin = choose_sensor(options, findings, lambda: scan(Findings()), known)
    return Opened(sensor, origin, scan(findings), findings=findings)


def _lines(path: Path) -> Iterator[str]:
    """Yield a file's lines; a line longer than MAX_LINE in pieces."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        while line := file.readline(MAX_LINE):
            yield line


def _count_before(lines: Sequence[str]) -> int:
    """Count the lines before header and rows: comments, E2VID's width and height."""
    for index, line in enumerate(lines):
        if not _is_comment(line) and not (index == 0 and SIZE.fullmatch(line)):
            return index
    return len(lines)


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(COMMENTS)


def _stated_sensor(path: Path, before: Sequence[str]) -> Sensor | None:
    for line in before:
        if size := GEOMETRY.search(line) or SIZE.fullmatch(line):
            return parse_sensor(path, size[1], size[2])
    return None


def _inspect(
    lines: Sequence[str], before: int, options: ReadOptions, findings: Findings
) -> _Table:
    """Find delimiter and columns from the first lines, of which `before` are skipped.

    Raises:
        NotEvents: A column is missing, or the columns have no names and fit no order.
    """
    if before == len(lines):
        raise NotEvents("the file holds no events")
    delimiter = max(DELIMITERS, key=lambda char: len(lines[before].split(char)))
    cells = _cells(lines[before], delimiter)
    if not all(map(_is_value, cells)):
        return _Table(delimiter, find_layout(options.columns or cells), before + 1)
    if options.columns:
        return _Table(delimiter, find_layout(options.columns), before)
    for comment in lines[:before]:
        with suppress(NotEvents):
            names = _cells(comment.lstrip("#% "), delimiter)
            return _Table(delimiter, find_layout(names), before)
    rows = [row for row in lines[before:] if row.endswith("\n")] or lines[before:]
    places = {str(index): index for index in range(len(cells))}
    columns = _parse(rows, delimiter, places)
    return _Table(delimiter, guess_layout([*columns.values()], findings), before)


def _cells(line: str, delimiter: str | None) -> list[str]:
    return [cell.strip().strip("\"'") for cell in line.split(delimiter)]


def _is_value(cell: str) -> bool:
    """Whether a cell of the first line is a value rather than a column's name."""
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return bool(WORD.fullmatch(cell))
    return True


def _chunks(
    path: Path, table: _Table, truncated: WhenTruncated, findings: Findings
) -> Iterator[Events]:
    converter = Converter(findings, table.layout.unit_us)
    lines = islice(_lines(path), table.skip, None)
    first = table.skip + 1
    while rows := list(islice(lines, CHUNK_LINES)):
        may_be_cut = truncated == "read" and not rows[-1].endswith("\n")
        try:
            yield converter.convert(_parse(rows, table.delimiter, table.layout.places))
        except ValueError as error:
            if not may_be_cut:
                raise _malformed(path, first, error) from error
            yield _without_last(path, rows, table, converter)
            findings.warn("its last line is cut and left out")
        first += len(rows)


def _without_last(
    path: Path, rows: list[str], table: _Table, converter: Converter
) -> Events:
    """Convert a file's last rows, of which the last is cut."""
    try:
        return converter.convert(
            _parse(rows[:-1], table.delimiter, table.layout.places)
        )
    except ValueError as error:
        reason = f"in its last {len(rows)} lines: {error}"
        raise MalformedRecording(path, reason) from error


def _malformed(path: Path, first: int, error: ValueError) -> MalformedRecording:
    return MalformedRecording(path, f"in the lines from {first} on: {error}")


def _parse(
    rows: Sequence[str], delimiter: str | None, places: dict[str, int]
) -> dict[str, Column]:
    """Parse rows into columns: int64 where every value is one, else float64.

    Raises:
        ValueError: A row lacks a value, or a value is no number.
    """
    rows = [row for row in rows if not _is_comment(row)]
    if delimiter != "," and any("," in row for row in rows):
        rows = [row.replace(",", ".") for row in rows]  # decimal commas
    if any(map(WORD.search, rows[:1])):
        rows = [WORD.sub(lambda word: WORDS[word[0].lower()], row) for row in rows]
    try:
        return _load(rows, delimiter, places, np.dtype(np.int64))
    except ValueError:
        return _load(rows, delimiter, places, np.dtype(np.float64))


def _load(
    rows: Sequence[str],
    delimiter: str | None,
    places: dict[str, int],
    dtype: np.dtype[Any],
) -> dict[str, Column]:
    if not rows:
        return {name: np.empty(0, dtype) for name in places}
    table = np.loadtxt(
        rows,
        dtype,
        comments=None,
        delimiter=delimiter,
        quotechar='"',
        usecols=list(places.values()),
        ndmin=2,
    )
    return dict(zip(places, table.T, strict=True))
