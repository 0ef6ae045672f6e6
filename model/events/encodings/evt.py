"""Incremental decoders of Prophesee's raw encodings EVT2 and EVT3.

A decoder belongs to one stream: the time's high bits (in EVT3 also the row and
the base of vectors) are state that outlives a chunk. However whole words are
cut into chunks, the events are the same. Events before the stream's first
TIME_HIGH have no timestamp and are dropped; other words are skipped.

The wraps of the camera's clock (EVT2 after 4.8 hours, EVT3 after 16.8 s) are
undone. A timestamp that steps back by at most STEP_BACK_US is raised to the newest
one (`clock.JitterFilter`); a larger step back is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import NEVER_US, Int64s, JitterFilter, Unwrapper
from saccade.model.events.errors import MalformedPayload, ReaderMissing
from saccade.model.events.reading import MOST_TRIGGERS, Trigger
from saccade.model.events.types import EVENT_DTYPE, Events

STEP_BACK_US: Final = 4096
"""One TIME_HIGH of EVT3: the largest step back that TIME_LOW alone can make."""

EVT2_WORD_BYTES: Final = 4
EVT2_CD_ON: Final = 0x1
EVT2_TIME_HIGH: Final = 0x8
EVT2_TRIGGER: Final = 0xA
EVT2_TIME_LOW_BITS: Final = 6
EVT2_TIME_HIGH_BITS: Final = 28
EVT3_WORD_BYTES: Final = 2
EVT3_ADDR_Y: Final = 0x0 << 12
EVT3_ADDR_X: Final = 0x2 << 12
EVT3_VECT_BASE_X: Final = 0x3 << 12
EVT3_VECT_12: Final = 0x4 << 12
EVT3_VECT_8: Final = 0x5 << 12
EVT3_TIME_LOW: Final = 0x6 << 12
EVT3_TIME_HIGH: Final = 0x8 << 12
EVT3_LAST_COLUMN: Final = 0x7FF
EVT3_VECT_12_COLUMNS: Final = 12
EVT3_TIME_HIGH_BITS: Final = 12
EVT3_US: Final = 1 << 24
"""The clock of EVT3 wraps after this."""
EVT3_HIGHS_BACK: Final = 256
"""How far TIME_HIGH may step back across zero; a larger step is one forwards."""
UNKNOWN: Final = -1
"""The time before the first TIME_HIGH."""
LOW_HALF: Final = 1 << 11
"""Half the range of TIME_LOW: a larger step back of it is a wrap."""
NEW_EVT3: Final = (UNKNOWN, 0, 0, 0)
"""The time, row, column and polarity of a new decoder."""

Words = npt.NDArray[np.uint16]
Bools = npt.NDArray[np.bool_]
DecoderState: TypeAlias = tuple[int, ...]
"""A decoder's whole state as plain integers; empty for a new decoder."""


class EvtDecoder(ABC):
    """A decoder of one stream's bytes, chunk by chunk.

    Where a caller sets `triggers` to a list, the edges at the camera's trigger input
    are added to it, up to `MOST_TRIGGERS`.
    """

    triggers: list[Trigger] | None = None

    @property
    @abstractmethod
    def wraps(self) -> int:
        """How many wraps of the clock were undone."""

    @abstractmethod
    def decode(self, data: bytes | memoryview) -> Events:
        """Decode the next whole words.

        Args:
            data: Any number of whole words; may be empty.

        Returns:
            The events that these words complete, shape (n,).

        Raises:
            MalformedPayload: The last word is cut, or the words cannot be
                decoded. A cut word leaves the decoder as it was.
        """

    @abstractmethod
    def count(self, data: bytes | memoryview) -> int:
        """Return how many events `decode` returns of whole words, at most.

        Words unfold: in the densest encoding two bytes hold twelve events. Counting
        takes little more memory than the words.
        """

    @abstractmethod
    def export_state(self) -> DecoderState:
        """Return the state from which another decoder can continue the stream."""

    @abstractmethod
    def import_state(self, state: DecoderState) -> None:
        """Continue the stream that `state` was exported from; on a new decoder only."""


class Evt2Decoder(EvtDecoder):
    """Decode EVT2: little-endian words of 32 bits, the kind in the top 4.

    CD_OFF (0) and CD_ON (1) hold 6 low bits of time, 11 of x and 11 of y;
    TIME_HIGH (8) holds the 28 bits of time above those.
    """

    def __init__(self) -> None:
        self._unwrapper = Unwrapper(EVT2_TIME_HIGH_BITS)
        self._jitter = JitterFilter(STEP_BACK_US)
        self._high: int | None = None

    @property
    def wraps(self) -> int:
        """How many wraps of the clock were undone."""
        return self._unwrapper.wraps

    def decode(self, data: bytes | memoryview) -> Events:
        """Decode the next whole words; see EvtDecoder."""
        _check_whole_words("evt2", data, EVT2_WORD_BYTES)
        words = np.frombuffer(data, "<u4")
        kinds = words >> 28
        time_highs = kinds == EVT2_TIME_HIGH
        is_event = kinds <= EVT2_CD_ON
        highs = self._unwrapper.unwrap(words[time_highs] & 0x0FFF_FFFF)
        # Index 0 is the high in force when the chunk begins, i the chunk's i-th.
        which = np.cumsum(time_highs)
        had_time = self._high is not None
        is_event &= (which > 0) | had_time
        in_force = np.concatenate([[self._high or 0], highs])
        self._high = int(in_force[-1]) if highs.size else self._high
        if self.triggers is not None:
            edges = np.flatnonzero((kinds == EVT2_TRIGGER) & ((which > 0) | had_time))
            t_us = in_force[which[edges]] << EVT2_TIME_LOW_BITS | (
                words[edges] >> 22 & 0x3F
            )
            add_triggers(self.triggers, t_us, words[edges] >> 8 & 0x1F, words[edges])
        cd = words[is_event]
        t_us = in_force[which[is_event]] << EVT2_TIME_LOW_BITS | (cd >> 22 & 0x3F)
        events = np.empty(cd.size, EVENT_DTYPE)
        events["t"] = self._jitter.apply(t_us)
        events["x"] = cd >> 11 & 0x7FF
        events["y"] = cd & 0x7FF
        events["p"] = cd >> 28
        return events

    def count(self, data: bytes | memoryview) -> int:
        """Return how many words are events, timed or not; see EvtDecoder."""
        words = np.frombuffer(data, "<u4", len(data) // EVT2_WORD_BYTES)
        return int(np.count_nonzero(words >> 28 <= EVT2_CD_ON))

    def export_state(self) -> DecoderState:
        """Return the time's high bits and the newest timestamp; see EvtDecoder."""
        high = self._unwrapper.newest
        return () if high is None else (high, self._jitter.newest_us)

    def import_state(self, state: DecoderState) -> None:
        """Continue another decoder's stream; see EvtDecoder."""
        if state:
            self._high, newest_us = state
            self._unwrapper.resume(self._high)
            self._jitter.resume(newest_us)


class Evt3Decoder(EvtDecoder):
    """Decode EVT3: little-endian words of 16 bits, most of them state.

    The package `evt3` decodes the words. Its time is right only while TIME_HIGH counts
    on by one: where words were lost, or before the first TIME_HIGH, the time is counted
    here. TIME_HIGH is unwrapped by half its range, so lost words may be of 8 s. So is
    TIME_LOW within its TIME_HIGH: some writers leave out all TIME_HIGH but the first.
    A smaller step back stays one. A row or a column that no word has set yet is 0.

    Raises:
        ReaderMissing: `evt3` is not installed.
    """

    def __init__(self) -> None:
        try:
            import evt3
        except ImportError as error:
            raise ReaderMissing("evt3") from error
        self._decoder = evt3.Decoder()
        # The package skips all words before a TIME_HIGH, rows and columns too.
        self._decoder.feed(_evt3(EVT3_TIME_HIGH, EVT3_TIME_LOW))
        self._unwrapper = Unwrapper(EVT3_TIME_HIGH_BITS, EVT3_HIGHS_BACK)
        self._jitter = JitterFilter(STEP_BACK_US)
        self._low = 0

    @property
    def wraps(self) -> int:
        """How many wraps of the clock were undone."""
        return self._unwrapper.wraps

    def decode(self, data: bytes | memoryview) -> Events:
        """Decode the next whole words; see EvtDecoder."""
        _check_whole_words("evt3", data, EVT3_WORD_BYTES)
        words = np.frombuffer(data, "<u2")
        highs: Words = words.compress(words >> 12 == 8) & np.uint16(0xFFF)
        before, low = self._unwrapper.newest, self._low
        lows, regular = _lows(words, low)
        self._low = int(lows[-1]) if lows.size else low
        if before is not None and regular and not self._edges(words):
            steps = _regular_steps(before, highs)
            if steps is not None:
                self._unwrapper.resume(before + steps)
                decoded = self._feed(data)
                # No event is older than one TIME_HIGH before the first.
                least_us = (before << 12) - STEP_BACK_US
                t_us = decoded.timestamp.astype(np.int64) - least_us
                t_us = least_us + (t_us & EVT3_US - 1)
                return _as_events(decoded, self._jitter.apply(t_us))
        return self._recounted(words, data, highs, low)

    def count(self, data: bytes | memoryview) -> int:
        """Return how many events the words hold, timed or not; see EvtDecoder."""
        words = np.frombuffer(data, "<u2", len(data) // EVT3_WORD_BYTES)
        return int(_events_in(words).sum())

    def _recounted(
        self, words: Words, data: bytes | memoryview, highs: Words, low: int
    ) -> Events:
        """Decode words whose time the package does not count right."""
        before = self._unwrapper.newest
        whole = self._unwrapper.unwrap(highs)
        times, added = _times(words, before, whole, low)
        if self.triggers is not None:
            edges = np.flatnonzero((words >> 12 == 10) & (times != NEVER_US))
            channels = words[edges] >> 8 & 0xF
            add_triggers(self.triggers, times[edges], channels, words[edges])
        t_us = times[np.repeat(np.arange(words.size), _events_in(words))]
        dated: Events = _as_events(self._feed(data), t_us)[t_us != NEVER_US]
        dated["t"] = self._jitter.apply(dated["t"])
        newest = self._unwrapper.newest
        if newest is not None and added:
            self._go_on_from(newest + added)
        return dated

    def _go_on_from(self, high: int) -> None:
        """Set TIME_HIGH, without wraps, here and in the package."""
        self._unwrapper.resume(high)
        time = EVT3_TIME_HIGH | high & 0xFFF, EVT3_TIME_LOW | self._low
        self._decoder.feed(_evt3(*time))

    def _feed(self, data: bytes | memoryview) -> Any:
        try:
            return self._decoder.feed(bytes(data))
        except OSError as error:
            raise MalformedPayload("evt3", str(error)) from error

    def _edges(self, words: Words) -> bool:
        """Return whether there are triggers to add."""
        return self.triggers is not None and bool(np.any(words >> 12 == 10))

    def _probe(self) -> Any:
        """Return two events that show the package's state: a single one and a vector's.

        The vector moves the column, which is then put back.
        """
        probe = self._decoder.feed(_evt3(EVT3_ADDR_X, EVT3_VECT_8 | 1))
        base = _vector_base(int(probe.x[1]), int(probe.polarity[1]))
        self._decoder.feed(_evt3(*base))
        return probe

    def export_state(self) -> DecoderState:
        """Return time, row, column and polarity of vectors, and the newest timestamp.

        The time is UNKNOWN before the first TIME_HIGH.
        """
        probe, high = self._probe(), self._unwrapper.newest
        t_us = UNKNOWN if high is None else high << 12 | self._low
        state = t_us, int(probe.y[1]), int(probe.x[1]), int(probe.polarity[1])
        return () if state == NEW_EVT3 else (*state, self._jitter.newest_us)

    def import_state(self, state: DecoderState) -> None:
        """Continue another decoder's stream; see EvtDecoder."""
        if not state:
            return
        t_us, y, column, p, newest_us = state
        self._decoder.feed(_evt3(EVT3_ADDR_Y | y, *_vector_base(column, p)))
        if t_us != UNKNOWN:
            self._low = t_us & 0xFFF
            self._go_on_from(t_us >> 12)
        self._jitter.resume(newest_us)


def _vector_base(column: int, p: int) -> list[int]:
    """Return the words that put the next vector's column and polarity.

    Vectors have moved a column beyond what one word holds, if vectors move it there.
    """
    vectors = max(0, -(-(column - EVT3_LAST_COLUMN) // EVT3_VECT_12_COLUMNS))
    first = column - vectors * EVT3_VECT_12_COLUMNS
    return [EVT3_VECT_BASE_X | p << 11 | first, *vectors * [EVT3_VECT_12]]


def _as_events(decoded: Any, t_us: Int64s) -> Events:
    """Return the package's events, with other timestamps."""
    events = np.empty(len(decoded), EVENT_DTYPE)
    events["t"], events["x"], events["y"] = t_us, decoded.x, decoded.y
    events["p"] = decoded.polarity
    return events


def _regular_steps(before: int, highs: Words) -> int | None:
    """Return how far TIME_HIGH counts on, one by one and less than half its range.

    Returns:
        The number of steps; None where TIME_HIGH takes any other step.
    """
    if not highs.size:
        return 0
    first = (int(highs[0]) - before) & 0xFFF
    steps = highs[1:] - highs[:-1] & 0xFFF
    if first > 1 or (steps.size and int(steps.max()) > 1):
        return None
    total = first + int(steps.sum())
    return total if total < 1 << EVT3_TIME_HIGH_BITS - 1 else None


def _lows(words: Words, low: int) -> tuple[Words, bool]:
    """Return the low bits that words set, and whether none of them is a wrap.

    A TIME_HIGH sets them to 0, as in the package.

    Args:
        words: The words, (n,).
        low: The low bits before them.
    """
    kinds = words >> 12
    setting = words.compress((kinds == 6) | (kinds == 8))
    lows: Words = setting & np.uint16(0xFFF)
    lows[setting >> 12 == 8] = 0
    if not lows.size:
        return lows, True
    back = lows[:-1].astype(np.int32) - lows[1:]
    first_wraps = low - int(lows[0]) > LOW_HALF and setting[0] >> 12 == 6
    wraps = (back > LOW_HALF) & (setting[1:] >> 12 == 6)
    return lows, not (first_wraps or wraps.any())


def _times(
    words: Words, before: int | None, highs: Int64s, low: int
) -> tuple[Int64s, int]:
    """Return the time at each word, and the wraps of TIME_LOW after the last TIME_HIGH.

    The time is (n,), µs; NEVER_US before the first TIME_HIGH.

    Args:
        words: The words, (n,).
        before: TIME_HIGH before them, without wraps; None before any.
        highs: TIME_HIGH at each word that sets it, without wraps.
        low: The low bits before them.
    """
    is_high, is_low = words >> 12 == 8, words >> 12 == 6
    in_force = np.concatenate([[NEVER_US if before is None else before], highs])
    place = np.cumsum(is_high)
    high = in_force[place]
    sets_low = is_high | is_low
    lows = np.concatenate([[low], np.where(is_low, words & 0xFFF, 0)[sets_low]])
    wrapped = np.zeros(words.size, np.int64)
    wrapped[sets_low] = is_low[sets_low] & (lows[:-1] - lows[1:] > LOW_HALF)
    wraps = np.cumsum(wrapped)
    wraps -= np.concatenate([[0], wraps[is_high]])[place]  # those since its TIME_HIGH
    low_in_force = lows[np.cumsum(sets_low)]
    known = high != NEVER_US
    times: Int64s = np.where(known, high + wraps << 12 | low_in_force, NEVER_US)
    return times, int(wraps[-1]) if words.size and known[-1] else 0


def _events_in(words: Words) -> Int64s:
    """Return how many events the package makes of each word, (n,)."""
    kinds = words >> 12
    bits = np.where(kinds == 4, words & 0xFFF, np.where(kinds == 5, words & 0xFF, 0))
    octets = np.ascontiguousarray(bits, "<u2").view(np.uint8).reshape(-1, 2)
    counts: Int64s = np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)
    counts += kinds == 2
    return counts


def add_triggers(
    triggers: list[Trigger],
    t_us: Int64s,
    channels: npt.NDArray[np.integer],
    words: npt.NDArray[np.integer],
) -> None:
    """Add the triggers of words, whose lowest bit is 1 for a rising edge."""
    room = max(0, MOST_TRIGGERS - len(triggers))
    rows = zip(t_us[:room].tolist(), channels.tolist(), words.tolist(), strict=False)
    triggers.extend(Trigger(t, channel, bool(word & 1)) for t, channel, word in rows)


def _evt3(*words: int) -> bytes:
    return np.array(words, "<u2").tobytes()


def _check_whole_words(
    encoding: str, data: bytes | memoryview, word_bytes: int
) -> None:
    if len(data) % word_bytes:
        reason = f"{len(data)} bytes are not a multiple of {word_bytes}"
        raise MalformedPayload(encoding, reason)
