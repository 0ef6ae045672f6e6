"""One stream's events to tokens in compiled code, without Python's lock.

`CompiledIngest` gives what `ingest.NumpyIngest` gives, by test. The output arrays hold
a frame at each step, so that nothing else is allocated there:

    packed pixels, offsets → timestamps of an unwrapped clock, checked → tokens

The compiled functions accept a frame or not. Why one is not accepted is said by
`NumpyIngest`, which then takes the same frame and raises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import NEVER_US
from saccade.model.events.encodings.packed import (
    RECORD_DTYPE,
    Y_LIMIT,
    Records,
    check_base,
)
from saccade.model.events.fit import fit
from saccade.model.events.tolerance import FAR_US, ClockPosition
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.ingest import Ingest, IngestConfig, IngestState, NumpyIngest
from saccade.model.kept_code import compiled, part
from saccade.model.tokens import Scheme, TimedTokens

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

NOT_TAKEN: Final = -1
OUTSIDE: Final = -1
"""In a table: the fit drops events of this column or row."""

_IS_LINEAR: Final[dict[Scheme, bool]] = {"linear": True, "product": False}
"""Whether column and row are added to a token; else they are multiplied."""
assert set(_IS_LINEAR) == {*get_args(Scheme)}

# Fields of a session's parameters, an array of int64.
_WIDTH, _HEIGHT, _POLARITIES, _CLOCK_BITS, _PLANE, _LINEAR, _CROPS, _LAST = range(8)
_FAR: Final = np.int64(FAR_US)


@part
def _outside(pixels: Int32s, session: Int64s) -> bool:
    """Return whether any pixel, `p << 31 | y << 16 | x`, is outside the sensor."""
    width, height = np.uint32(session[_WIDTH]), np.uint32(session[_HEIGHT])
    polarities = np.uint32(session[_POLARITIES])
    found = False
    for i in range(len(pixels)):
        pixel = np.uint32(pixels[i])
        found |= bool((pixel & np.uint32(0xFFFF)) >= width)
        found |= bool(((pixel >> np.uint32(16)) & np.uint32(0x7FFF)) >= height)
        found |= bool((pixel >> np.uint32(31)) >= polarities)
    return found


@part
def _unwrap(t_us: Int64s, session: Int64s) -> None:
    """Undo the wraps of a clock in place, as `clock.unwrap_sorted` does."""
    span = np.int64(1) << session[_CLOCK_BITS]
    mask, wrap = span - 1, -(span >> 3)
    whole = session[_LAST] if session[_LAST] != NEVER_US else t_us[0] & mask
    before = whole & mask
    for i in range(len(t_us)):
        count = t_us[i] & mask
        step = count - before
        whole += step + span if step < wrap else step
        t_us[i] = whole
        before = count


@part
def _strays(t_us: Int64s, last_us: int) -> bool:
    """Return whether time runs backwards or steps far, anywhere or since `last_us`."""
    found = bool(t_us[0] < last_us)
    if last_us != NEVER_US:
        found |= bool(t_us[0] - last_us > _FAR)
    for i in range(1, len(t_us)):
        step = t_us[i] - t_us[i - 1]
        found |= bool((step < 0) | (step > _FAR))
    return found


@part
def _tokenize(
    pixels: Int32s, t_us: Int64s, session: Int64s, columns: Int32s, rows: Int32s
) -> int:
    """Replace pixels by tokens in place; return how many events the fit keeps."""
    plane, linear = np.int32(session[_PLANE]), session[_LINEAR] != 0
    crops = session[_CROPS] != 0
    kept = 0
    for i in range(len(pixels)):
        pixel = np.uint32(pixels[i])
        x = columns[pixel & np.uint32(0xFFFF)]
        y = rows[(pixel >> np.uint32(16)) & np.uint32(0x7FFF)]
        if crops and (x == OUTSIDE or y == OUTSIDE):
            continue
        place = x + y if linear else x * y
        pixels[kept] = place + np.int32(pixel >> np.uint32(31)) * plane
        t_us[kept] = t_us[i]
        kept += 1
    return kept


@part
def _finish(pixels: Int32s, t_us: Int64s, session: Int64s, table: Int32s) -> int:
    """Turn pixels into tokens in place, and unwrap timestamps.

    Returns:
        How many events the fit keeps; `NOT_TAKEN`, with the session's parameters as
        before, where an event is outside the sensor, out of order or far ahead.
    """
    if len(pixels) == 0:
        return 0
    if _outside(pixels, session):
        return NOT_TAKEN
    if session[_CLOCK_BITS]:
        _unwrap(t_us, session)
    if _strays(t_us, session[_LAST]):
        return NOT_TAKEN
    session[_LAST] = t_us[-1]
    width = session[_WIDTH]
    return _tokenize(pixels, t_us, session, table[:width], table[width:])


def _take_records(
    records: Records,
    t_base_us: int,
    session: Int64s,
    table: Int32s,
    pixels: Int32s,
    t_us: Int64s,
) -> int:
    """Read packed records into `pixels` and `t_us`, then as `_finish`."""
    for i in range(len(records)):
        t_us[i] = np.int64(t_base_us) + np.int64(records[i].offset_us)
        pixels[i] = np.int32(records[i].pixel)
    return _finish(pixels, t_us, session, table)


def _take_events(
    events: Events, session: Int64s, table: Int32s, pixels: Int32s, t_us: Int64s
) -> int:
    """Read events into `pixels` and `t_us`, then as `_finish`."""
    packable = True
    for i in range(len(events)):
        x, y, p = events[i].x, events[i].y, events[i].p
        packable &= (y < Y_LIMIT) & (p < 2)
        t_us[i] = events[i].t
        pixels[i] = np.int32(np.uint32(p) << 31 | np.uint32(y) << 16 | np.uint32(x))
    return _finish(pixels, t_us, session, table) if packable else NOT_TAKEN


class _Kernels(NamedTuple):
    """The compiled functions that Python calls."""

    take_records: Callable[..., int]
    take_events: Callable[..., int]


@cache
def prepare() -> _Kernels:
    """Compile the functions, or read them from disk; later calls cost nothing."""
    return _Kernels(*compiled([_take_records, _take_events], _use))


def _use(take_records: Callable[..., int], take_events: Callable[..., int]) -> None:
    """Take a frame without events by each function."""
    session, table = np.zeros(_LAST + 1, np.int64), np.empty(0, np.int32)
    outputs = np.empty(0, np.int32), np.empty(0, np.int64)
    received = np.frombuffer(b"", RECORD_DTYPE)
    take_records(received, 0, session, table, *outputs)
    take_events(np.empty(0, EVENT_DTYPE), session, table, *outputs)


class CompiledIngest(Ingest):
    """Turns one stream's frames into tokens, in one compiled call a frame."""

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self._take_records, self._take_events = prepare()
        self._session, self._table = _parameters(config), _table(config)
        self._jumped_from_us: int | None = None
        self._skipped = 0

    @property
    def state(self) -> IngestState:
        """Where the stream is."""
        last_us = int(self._session[_LAST])
        if last_us == NEVER_US:
            return IngestState(skipped=self._skipped)
        at = ClockPosition(last_us, self._jumped_from_us)
        return IngestState(at, self._skipped)

    @property
    def skipped(self) -> int:
        """Events that were left out since the stream began."""
        return self._skipped

    def resume(self, state: IngestState) -> None:
        """Continue the stream that has come so far; a new state begins anew."""
        (last_us, self._jumped_from_us), self._skipped = state
        self._session[_LAST] = NEVER_US if last_us is None else last_us

    def take_records(self, records: Records, t_base_us: int) -> TimedTokens:
        """Take the next frame as packed records; see `Ingest`."""
        check_base(t_base_us)
        n, session, table = len(records), self._session, self._table
        tokens, t_us = np.empty(n, np.int32), np.empty(n, np.int64)
        kept = self._take_records(records, t_base_us, session, table, tokens, t_us)
        if kept == NOT_TAKEN:
            return self._refer(lambda other: other.take_records(records, t_base_us))
        return self._first(kept, tokens, t_us)

    def take_events(self, events: Events) -> TimedTokens:
        """Take the next frame as events; see `Ingest`."""
        n, session, table = len(events), self._session, self._table
        tokens, t_us = np.empty(n, np.int32), np.empty(n, np.int64)
        kept = self._take_events(events, session, table, tokens, t_us)
        if kept == NOT_TAKEN:
            return self._refer(lambda other: other.take_events(events))
        return self._first(kept, tokens, t_us)

    def _refer(self, take: Callable[[NumpyIngest], TimedTokens]) -> TimedTokens:
        """Take by the reference a frame that the compiled code does not take."""
        reference = NumpyIngest(self._config)
        reference.resume(self.state)
        chunk = take(reference)
        self.resume(reference.state)
        return chunk

    def _first(self, kept: int, tokens: Int32s, t_us: Int64s) -> TimedTokens:
        """Return the first events, in memory of their own where others are dropped."""
        if len(tokens):
            self._jumped_from_us = None  # the events confirm the step before them
        if kept == len(tokens):
            return TimedTokens(tokens, t_us)
        return TimedTokens(tokens[:kept].copy(), t_us[:kept].copy())


def _parameters(config: IngestConfig) -> Int64s:
    source, tokenization = config.source, config.tokenization
    session = np.empty(_LAST + 1, np.int64)
    session[_WIDTH], session[_HEIGHT] = source.width, source.height
    session[_POLARITIES] = source.polarities
    session[_CLOCK_BITS] = config.clock_bits or 0
    session[_PLANE] = tokenization.width * tokenization.height
    session[_LINEAR] = _IS_LINEAR[tokenization.scheme]
    session[_CROPS] = bool((_table(config) == OUTSIDE).any())
    session[_LAST] = NEVER_US
    return session


@lru_cache(maxsize=32)
def _table(config: IngestConfig) -> Int32s:
    """Return what each column of the source adds to a token, and then each row."""
    tokenization = config.tokenization
    stride = tokenization.width if _IS_LINEAR[tokenization.scheme] else 1
    columns, rows = _fitted(config, "x"), _fitted(config, "y")
    rows[rows != OUTSIDE] *= stride
    return np.concatenate([columns, rows]).astype(np.int32)


def _fitted(config: IngestConfig, axis: str) -> Int64s:
    """Return where the fit moves each coordinate, in tokens, or `OUTSIDE`."""
    source, target = config.source, config.tokenization.sensor
    line = np.zeros(source.width if axis == "x" else source.height, EVENT_DTYPE)
    line["t"] = line[axis] = np.arange(len(line))
    # The middle of the other axis is inside whatever a crop keeps.
    other, side = ("y", source.height) if axis == "x" else ("x", source.width)
    line[other] = (side - 1) // 2
    kept = fit(line, source, target, config.policy)
    places = np.full(len(line), OUTSIDE, np.int64)
    places[kept["t"]] = kept[axis] // config.tokenization.downsample
    return places
