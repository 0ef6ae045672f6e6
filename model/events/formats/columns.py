"""What the columns of a table of events mean: their names, their order, their values.

Text tables, arrays and HDF5 files name the same four columns in many ways and give
time in several units. A `Layout` says where the columns are; `to_events` converts
their values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import NotEvents
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events, as_events

Column: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = Mapping[str, Column]
"""A chunk's columns by field (t, x, y, p), each of shape (n,)."""

NAMES: Final = {
    "t": ("t", "timestamp", "ts", "timestamps", "time", "times"),
    "x": ("x", "xs", "x_coordinate"),
    "y": ("y", "ys", "y_coordinate"),
    "p": ("p", "on", "polarity", "pol", "ps", "polarities", "on/off"),
}
"""The names of each field's column, in order of preference."""

UNITS_US: Final = {
    "s": 1e6, "sec": 1e6, "seconds": 1e6,
    "ms": 1e3, "milliseconds": 1e3,
    "us": 1.0, "µs": 1.0, "usec": 1.0, "microseconds": 1.0,
    "ns": 1e-3, "nanoseconds": 1e-3,
}  # fmt: skip
"""A unit of time in µs, by the name that a column's name ends with."""

ORDERS: Final = ("txyp", "xytp", "xypt")
"""The orders of four nameless columns that occur; ESIM's, E2VID's and Metavision's."""

NANOSECONDS_FROM: Final = 10**17
"""Integers from here on count ns: as µs they would be 3,000 years."""
MOST_US: Final = 2.0**62
SHARE_BACKWARDS: Final = 0.01
"""The share of steps back in time that nameless columns may have."""
_NAME: Final = re.compile(r"(.*?)(?:[\s_]*[\[(]\s*(\S+?)\s*[\])]|[\s_]+(\S+?))?")
_BOUND: Final = re.compile(r"(.*)@(\d+)")


class Layout(NamedTuple):
    """Where the columns are, and what is known of their values.

    Attributes:
        places: The index of each field's column.
        unit_us: The unit of time, µs; None if the values must tell.
        sensor: The geometry, where the names have it, as faery's `x@240`.
    """

    places: dict[str, int]
    unit_us: float | None = None
    sensor: Sensor | None = None


def find_layout(names: Sequence[str]) -> Layout:
    """Find the four columns by their names, in any order and among others.

    Args:
        names: The columns' names; case, quotes and blanks do not matter. A name may
            end with a unit, as `t_ns` or `time [s]`, or with a bound, as `x@240`.

    Raises:
        NotEvents: A column is missing.
    """
    parsed = [_parse(name) for name in names]
    places, plain = {}, [name for name, _, _ in parsed]
    for field, aliases in NAMES.items():
        found = [plain.index(alias) for alias in aliases if alias in plain]
        if not found:
            raise NotEvents(f"no column {field} in {', '.join(names)[:60]!r}")
        places[field] = found[0]
    width, height = parsed[places["x"]].bound, parsed[places["y"]].bound
    sensor = Sensor(width, height) if width and height else None
    return Layout(places, parsed[places["t"]].unit_us, sensor)


class _Name(NamedTuple):
    plain: str
    unit_us: float | None = None
    bound: int | None = None


def _parse(name: str) -> _Name:
    text = name.strip().strip("\"'").strip().lower()
    if bounded := _BOUND.fullmatch(text):
        return _Name(bounded[1], None, int(bounded[2]))
    match = _NAME.fullmatch(text)
    unit = match and (match[2] or match[3])
    if match and unit in UNITS_US:
        return _Name(match[1], UNITS_US[unit])
    return _Name(text)


def guess_layout(columns: Sequence[Column], findings: Findings) -> Layout:
    """Guess the order of four columns without names from a table's first rows.

    Of the ORDERS in which time hardly ever runs backwards, coordinates are whole and
    small, and polarities are 0, 1 or -1, the one is taken whose time advances most.

    Args:
        columns: The first rows' columns.
        findings: Receives a warning that says which order was taken.

    Raises:
        NotEvents: There are not four columns, or no order fits.
    """
    if not columns or not len(columns[0]):
        raise NotEvents("it holds no events")
    if len(columns) != 4:
        raise NotEvents(f"{len(columns)} columns without names, not 4")
    named = {order: dict(zip(order, columns, strict=True)) for order in ORDERS}
    fitting = [order for order in ORDERS if _fits(named[order])]
    if not fitting:
        orders = ", ".join(map(" ".join, ORDERS))
        raise NotEvents(f"the columns have no names, and are none of {orders}")
    order = max(fitting, key=lambda order: np.ptp(named[order]["t"]))
    findings.warn(f"the columns have no names and are taken as {' '.join(order)}")
    return Layout({field: index for index, field in enumerate(order)})


def _fits(columns: Columns) -> bool:
    x, y, p = (np.asarray(columns[field]) for field in "xyp")
    small = all(_is_whole(c) and c.min() >= 0 and c.max() < 1 << 16 for c in (x, y))
    polarities = bool(np.isin(p, (-1, 0, 1)).all())
    backwards = np.diff(np.asarray(columns["t"], np.float64)) < 0
    sorted_enough = bool(backwards.sum() <= SHARE_BACKWARDS * len(backwards))
    return small and polarities and sorted_enough


class Converter:
    """Converts one table's columns to events, chunk by chunk.

    The first chunk decides the unit of time where no name says it: floating-point
    values with fractions are seconds, integers from NANOSECONDS_FROM on are ns, all
    else is µs. What is not µs is announced in `findings`.
    """

    def __init__(self, findings: Findings, unit_us: float | None = None) -> None:
        self._findings = findings
        self._unit_us = unit_us

    def convert(self, columns: Columns) -> Events:
        """Convert the next rows.

        Raises:
            NotEvents: A column is not numeric, or a coordinate is no integer.
            EventOutsideSensor: A value does not fit its field.
        """
        whole = {name: _whole(name, columns[name]) for name in ("x", "y", "p")}
        whole["t"] = self._times(columns["t"])
        integers = np.empty(
            len(whole["t"]), [(name, "i8") for name in EVENT_DTYPE.names or ()]
        )
        for name, column in whole.items():
            integers[name] = column
        return as_events(integers)

    def _times(self, column: Column) -> Column:
        if column.dtype.kind in "mM":
            return column.astype(f"{column.dtype.kind}8[us]").astype(np.int64)
        _check_numeric("t", column)
        if self._unit_us is None and column.size:
            self._unit_us, reason = _guess_unit(column)
            if reason:
                self._findings.warn(reason)
        unit_us = self._unit_us or 1.0
        if column.dtype.kind != "f":
            return _scaled(column, unit_us)
        times = column.astype(np.float64) * unit_us
        if not (np.abs(times) < MOST_US).all():
            raise NotEvents("t has a value that is no time")
        if unit_us == 1.0 and not _is_whole(column):
            reason = "t was taken for µs and has fractions; name its column t_us or t_s"
            raise NotEvents(reason)
        return np.rint(times).astype(np.int64)


def _guess_unit(column: Column) -> tuple[float, str]:
    if column.dtype.kind == "f":
        if _is_whole(column):
            return 1.0, ""
        return UNITS_US["s"], "t has fractions and is taken as seconds"
    if column[0] >= NANOSECONDS_FROM:
        return UNITS_US["ns"], "t is taken as nanoseconds, for it is so large"
    return 1.0, ""


def _scaled(column: Column, unit_us: float) -> Column:
    if column.dtype == np.uint64 and column.size and column.max() >= 1 << 63:
        raise NotEvents("t has a value above 2^63")
    times = column.astype(np.int64)
    if unit_us < 1:
        return times // round(1 / unit_us)
    if times.size and np.abs(times).max() > MOST_US / unit_us:
        raise NotEvents("t has a value that is no time")
    return times * round(unit_us)


def _whole(name: str, column: Column) -> Column:
    _check_numeric(name, column)
    if column.dtype.kind != "f":
        return column
    if not _is_whole(column):
        raise NotEvents(f"{name} has a value that is no integer")
    return np.clip(column, -(2.0**62), 2.0**62).astype(np.int64)


def _check_numeric(name: str, column: Column) -> None:
    if column.dtype.kind not in "iubf" or column.ndim != 1:
        raise NotEvents(f"column {name} is {column.dtype}, not a number a row")


def _is_whole(column: Column) -> bool:
    if column.dtype.kind != "f":
        return True
    return bool(np.isfinite(column).all() and (column == np.rint(column)).all())
