"""Incremental decoder of Prophesee's raw encoding EVT2.1, the GenX320's default.

    bits 63 … 60  kind: 0 EVT_NEG, 1 EVT_POS, 8 TIME_HIGH, 10 EXT_TRIGGER
    bits 59 … 54  the 6 low bits of time                      or 59 … 32: the 28 high
    bits 53 … 43  x of the first of 32 pixels                 bits of time
    bits 42 … 32  y
    bits 31 …  0  one bit a pixel, the lowest the first: set where there is an event

Some older cameras (Gen4.1, IMX636) send the two halves of a word the other way round;
Prophesee calls that order `legacy`.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import JitterFilter, Unwrapper
from saccade.model.events.encodings.evt import (
    STEP_BACK_US,
    DecoderState,
    EvtDecoder,
    add_triggers,
)
from saccade.model.events.errors import MalformedPayload
from saccade.model.events.types import EVENT_DTYPE, Events

WORD_BYTES: Final = 8
POSITIVE: Final = 0x1
TIME_HIGH: Final = 0x8
TRIGGER: Final = 0xA
KINDS: Final = (0x0, POSITIVE, TIME_HIGH, TRIGGER, 0xE, 0xF)
"""All kinds of words, with others and continued ones."""
TIME_LOW_BITS: Final = 6
TIME_HIGH_BITS: Final = 28
PIXELS: Final = 32

Words: TypeAlias = npt.NDArray[Any]


class Evt21Decoder(EvtDecoder):
    """Decode EVT2.1: little-endian words of 64 bits, each of up to 32 events.

    Args:
        is_legacy: Whether the halves of a word come the other way round.
    """

    def __init__(self, *, is_legacy: bool = False) -> None:
        self._is_legacy = is_legacy
        self._unwrapper = Unwrapper(TIME_HIGH_BITS)
        self._jitter = JitterFilter(STEP_BACK_US)

    @property
    def wraps(self) -> int:
        """How many wraps of the clock were undone."""
        return self._unwrapper.wraps

    def decode(self, data: bytes | memoryview) -> Events:
        """Decode the next whole words; see EvtDecoder."""
        if len(data) % WORD_BYTES:
            reason = f"{len(data)} bytes are not a multiple of {WORD_BYTES}"
            raise MalformedPayload("evt21", reason)
        words = np.frombuffer(data, "<u8")
        if self._is_legacy:
            words = words << 32 | words >> 32
        kinds = words >> 60
        is_high, before = kinds == TIME_HIGH, self._unwrapper.newest
        counts = (words[is_high] >> 32 & 0x0FFF_FFFF).astype(np.int64)
        highs = self._unwrapper.unwrap(counts)
        # Index 0 is the high in force when the chunk begins, i the chunk's i-th.
        which = np.cumsum(is_high)
        is_timed = (which > 0) | (before is not None)
        in_force = np.concatenate([[before or 0], highs])
        if self.triggers is not None:
            at = np.flatnonzero((kinds == TRIGGER) & is_timed)
            t_us = _times(words[at], in_force[which[at]])
            add_triggers(self.triggers, t_us, words[at] >> 40 & 0x1F, words[at] >> 32)
        at = np.flatnonzero((kinds <= POSITIVE) & is_timed)
        return self._events(words[at], in_force[which[at]])

    def count(self, data: bytes | memoryview) -> int:
        """Return how many pixels the words set, timed or not; see EvtDecoder."""
        words = np.frombuffer(data, "<u8", len(data) // WORD_BYTES)
        if self._is_legacy:
            words = words << 32 | words >> 32
        pixels = words[words >> 60 <= POSITIVE].astype("<u4").view(np.uint8)
        return int(np.count_nonzero(np.unpackbits(pixels)))

    def _events(self, words: Words, highs: npt.NDArray[np.int64]) -> Events:
        """Return the events of words, (w,), whose times have these high bits, (w,)."""
        valid = words.astype("<u4").view(np.uint8).reshape(-1, PIXELS // 8)
        word, pixel = np.nonzero(np.unpackbits(valid, axis=1, bitorder="little"))
        events = np.empty(word.size, EVENT_DTYPE)
        events["t"] = self._jitter.apply(_times(words, highs)[word])
        events["x"] = (words >> 43 & 0x7FF)[word] + pixel.astype(np.uint64)
        events["y"] = (words >> 32 & 0x7FF)[word]
        events["p"] = (words >> 60)[word]
        return events

    def export_state(self) -> DecoderState:
        """Return the time's high bits and the newest timestamp; see EvtDecoder."""
        high = self._unwrapper.newest
        return () if high is None else (high, self._jitter.newest_us)

    def import_state(self, state: DecoderState) -> None:
        """Continue another decoder's stream; see EvtDecoder."""
        if state:
            high, newest_us = state
            self._unwrapper.resume(high)
            self._jitter.resume(newest_us)


def _times(words: Words, highs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the times of words, (w,), µs, from their own low bits and these highs."""
    return highs << TIME_LOW_BITS | (words >> 54 & 0x3F).astype(np.int64)


def looks_legacy(data: bytes) -> bool:
    """Whether whole words make sense with their halves swapped, and only so.

    For files whose header does not say in which order the halves are.
    """
    words = np.frombuffer(data, "<u8")
    return _make_sense(words >> 28 & 0xF) and not _make_sense(words >> 60)


def _make_sense(kinds: Words) -> bool:
    return bool(np.isin(kinds, KINDS).all() and (kinds == TIME_HIGH).any())
