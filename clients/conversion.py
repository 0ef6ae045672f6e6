"""What a caller gives, as the SDK's own types: tuples, dicts and strings too.

sensor   Sensor(640, 480), (640, 480), (640, 480, 1), "640x480"
report   Report("ms", 100), "tick", ("ms", 100), {"every": "ms", "n": 100}
readout  ReadoutWindow(…), "session", ("half_life", 300), {"window": …}
events   a structured array, a data frame, a dict of columns, a list of (t, x, y, p)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from saccade.clients.errors import InvalidChoice
from saccade.model.events.encodings.packed import Y_LIMIT
from saccade.model.events.errors import NotEvents
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import FIELD_NAMES, Events, as_events
from saccade.server.protocol.messages import ReadoutWindow, Report

SensorLike: TypeAlias = Sensor | Sequence[int] | str
ReportLike: TypeAlias = Report | Mapping[str, Any] | Sequence[Any] | str
ReadoutLike: TypeAlias = ReadoutWindow | Mapping[str, Any] | Sequence[Any] | str

T = TypeVar("T")

EVENTS_WANTED: Final = (
    "give an array with the fields t, x, y and p, a dict of such columns, or a list of "
    "(t, x, y, p)"
)
SECONDS_HINT: Final = "t is in µs: (t * 1e6).astype('i8') makes it of seconds"


def to_sensor(given: SensorLike) -> Sensor:
    """Return a sensor from its sides, and polarities where they are given.

    Raises:
        InvalidChoice: The value is no sensor.
    """
    sides = given.lower().split("x") if isinstance(given, str) else given
    if isinstance(sides, Sensor):
        return sides
    try:
        width, height, *polarities = (int(side) for side in sides)
        return Sensor(width, height, *polarities)
    except (TypeError, ValueError) as error:
        wanted = "give a Sensor, (width, height) or '640x480'"
        raise InvalidChoice("sensor", f"{given!r} is none: {wanted}") from error


def to_report(given: ReportLike) -> Report:
    """Return a report policy; raises InvalidChoice where the value names none."""
    wanted = "give a Report, 'tick', ('ms', 100) or {'every': 'ms', 'n': 100}"
    return given if isinstance(given, Report) else _built(Report, given, wanted)


def to_readout(given: ReadoutLike) -> ReadoutWindow:
    """Return a readout window; raises InvalidChoice where the value names none."""
    wanted = "give a ReadoutWindow, 'session' or ('half_life', 300)"
    if isinstance(given, ReadoutWindow):
        return given
    return _built(ReadoutWindow, given, wanted)


def _built(kind: Callable[..., T], given: Any, wanted: str) -> T:
    name = "report" if kind is Report else "readout"
    try:
        match given:
            case str():
                return kind(given)
            case Mapping():
                return kind(**given)
            case _:
                return kind(*given)
    except TypeError as error:
        raise InvalidChoice(name, f"{given!r} is none: {wanted}") from error


def to_packable(given: Any) -> tuple[Events, int]:
    """Return events as `to_events`, without those that no wire's record can hold.

    Returns:
        The events, and how many were left out.
    """
    array = _named(given)
    holds = np.ones(array.shape, np.bool_)
    for field, limit in {"x": 1 << 16, "y": Y_LIMIT, "p": 2}.items():
        column = array[next(n for n in FIELD_NAMES[field] if n in array.dtype.names)]
        least = -1 if field == "p" else 0
        if column.dtype.kind in "iu":
            holds &= (column >= least) & (column < limit)
    left_out = int(np.count_nonzero(~holds))
    return as_events(array[holds] if left_out else array), left_out


def to_events(given: Any) -> Events:
    """Return events from any form whose meaning is plain.

    Args:
        given: A structured array, shape (n,); a data frame; a mapping of columns, each
            shape (n,); or a sequence of `(t, x, y, p)`, the protocol's order.

    Raises:
        NotEvents: The value is none of these; says what to give.
        EventOutsideSensor: A value does not fit the field's width.
    """
    return as_events(_named(given))


def _named(given: Any) -> np.ndarray[Any, Any]:
    """Return an array with the fields of events, of whatever types."""
    if hasattr(given, "to_records"):  # a data frame
        given = given.to_records(index=False)
    elif isinstance(given, Mapping):
        given = _of_columns(given)
    elif isinstance(given, (list, tuple)):
        given = _of_rows(given)
    if not isinstance(given, np.ndarray):
        raise NotEvents(f"{type(given).__name__} is none; {EVENTS_WANTED}")
    if given.dtype.names is None:
        shape = f"the array's shape is {given.shape}, without names"
        raise NotEvents(f"{shape}; {EVENTS_WANTED}")
    _refuse_seconds(given)
    for field, names in FIELD_NAMES.items():
        if not any(name in given.dtype.names for name in names):
            raise NotEvents(f"there is no field {field}; {EVENTS_WANTED}")
    return given


def _of_columns(given: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    names = {name for known in FIELD_NAMES.values() for name in known}
    columns = {n: _column(given[n]) for n in given if n in names}
    lengths = {column.shape for column in columns.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise NotEvents(f"the columns have the shapes {sorted(lengths)}")
    fields = [(name, column.dtype) for name, column in columns.items()]
    table = np.empty(lengths.pop() if lengths else (0,), fields)
    for name, column in columns.items():
        table[name] = column
    return table


def _column(values: Any) -> np.ndarray[Any, Any]:
    column = np.asarray(values)
    return column if column.size else column.astype(np.int64)  # [] is of floats


def _of_rows(given: Sequence[Any]) -> np.ndarray[Any, Any]:
    try:
        rows = np.array([tuple(row) for row in given]).reshape(-1, len(FIELD_NAMES))
    except (TypeError, ValueError):
        raise NotEvents(f"a row is not (t, x, y, p); {EVENTS_WANTED}") from None
    if len(rows) != len(given):
        raise NotEvents(f"a row is not (t, x, y, p); {EVENTS_WANTED}")
    return _of_columns(dict(zip(FIELD_NAMES, rows.T, strict=True)))


def _refuse_seconds(given: np.ndarray[Any, Any]) -> None:
    for name in FIELD_NAMES["t"]:
        if name in (given.dtype.names or ()) and given[name].dtype.kind == "f":
            raise NotEvents(
                f"field {name} is {given[name].dtype}, not an integer; {SECONDS_HINT}"
            )
