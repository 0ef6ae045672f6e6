"""Incremental decoders of Prophesee's raw encodings EVT2 and EVT3.

A decoder belongs to one stream: the time's high bits (in EVT3 also the row and
the base of vectors) are state that outlives a chunk. However whole words are
cut into chunks, the events are the same. Events before the stream's first
TIME_HIGH have no timestamp and are dropped; triggers and other words are skipped.

The wraps of the camera's clock (EVT2 after 4.8 hours, EVT3 after 16.8 s) are
undone. A timestamp that steps back by at most STEP_BACK_US is raised to the newest
one (`clock.JitterFilter`); a larger step back is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, TypeAlias

import numpy as np

from saccade.model.events.clock import JitterFilter, Unwrapper
from saccade.model.events.errors import MalformedPayload, ReaderMissing
from saccade.model.events.types import EVENT_DTYPE, Events

STEP_BACK_US: Final = 4096
"""One TIME_HIGH of EVT3: the largest step back that TIME_LOW alone can make."""

EVT2_WORD_BYTES: Final = 4
EVT2_CD_ON: Final = 0x1
EVT2_TIME_HIGH: Final = 0x8
EVT2_TIME_LOW_BITS: Final = 6
EVT2_TIME_HIGH_BITS: Final = 28
EVT3_WORD_BYTES: Final = 2
EVT3_ADDR_Y: Final = 0x0 << 12
EVT3_ADDR_X: Final = 0x2 << 12
EVT3_VECT_BASE_X: Final = 0x3 << 12
EVT3_VECT_8: Final = 0x5 << 12
EVT3_TIME_LOW: Final = 0x6 << 12
EVT3_TIME_HIGH: Final = 0x8 << 12
EVT3_TIME_BITS: Final = 24

DecoderState: TypeAlias = tuple[int, ...]
"""A decoder's whole state as plain integers; empty for a new decoder."""


class EvtDecoder(ABC):
    """A decoder of one stream's bytes, chunk by chunk."""

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
        if self._high is None:
            is_event &= which > 0
        in_force = np.concatenate([[self._high or 0], highs])
        self._high = int(in_force[-1]) if highs.size else self._high
        cd = words[is_event]
        t_us = in_force[which[is_event]] << EVT2_TIME_LOW_BITS | (cd >> 22 & 0x3F)
        events = np.empty(cd.size, EVENT_DTYPE)
        events["t"] = self._jitter.apply(t_us)
        events["x"] = cd >> 11 & 0x7FF
        events["y"] = cd & 0x7FF
        events["p"] = cd >> 28
        return events

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

    The package `evt3` decodes the words and unwraps the clock. A TIME_LOW that steps
    back within its TIME_HIGH stays a step back; several libraries make it a wrap.

    Raises:
        ReaderMissing: `evt3` is not installed.
    """

    def __init__(self) -> None:
        try:
            import evt3
        except ImportError as error:
            raise ReaderMissing("evt3") from error
        self._decoder = evt3.Decoder()
        self._jitter = JitterFilter(STEP_BACK_US)
        self._epoch_us = 0  # time that the package's decoder does not count

    def decode(self, data: bytes | memoryview) -> Events:
        """Decode the next whole words; see EvtDecoder."""
        _check_whole_words("evt3", data, EVT3_WORD_BYTES)
        try:
            decoded = self._decoder.feed(bytes(data))
        except OSError as error:
            raise MalformedPayload("evt3", str(error)) from error
        events = np.empty(len(decoded), EVENT_DTYPE)
        t_us = decoded.timestamp.astype(np.int64) + self._epoch_us
        events["t"] = self._jitter.apply(t_us)
        events["x"] = decoded.x
        events["y"] = decoded.y
        events["p"] = decoded.polarity
        return events

    def export_state(self) -> DecoderState:
        """Return time, row, base of vectors, polarity, and the newest timestamp.

        The package has no access to its state. Two probing events show the state;
        the vector among them moves the base, which is then put back.
        """
        probe = self._decoder.feed(_evt3(EVT3_ADDR_X, EVT3_VECT_8 | 1))
        if len(probe) == 0:
            return ()
        t_us, y = int(probe.timestamp[1]) + self._epoch_us, int(probe.y[1])
        base, p = int(probe.x[1]), int(probe.polarity[1])
        self._decoder.feed(_evt3(EVT3_VECT_BASE_X | p << 11 | base))
        return t_us, y, base, p, self._jitter.newest_us

    def import_state(self, state: DecoderState) -> None:
        """Continue another decoder's stream; see EvtDecoder."""
        if not state:
            return
        t_us, y, base, p, newest_us = state
        self._epoch_us = t_us >> EVT3_TIME_BITS << EVT3_TIME_BITS
        high, low = t_us >> 12 & 0xFFF, t_us & 0xFFF
        self._decoder.feed(
            _evt3(
                EVT3_TIME_HIGH | high,
                EVT3_TIME_LOW | low,
                EVT3_ADDR_Y | y,
                EVT3_VECT_BASE_X | p << 11 | base,
            )
        )
        self._jitter.resume(newest_us)


def _evt3(*words: int) -> bytes:
    return np.array(words, "<u2").tobytes()


def _check_whole_words(
    encoding: str, data: bytes | memoryview, word_bytes: int
) -> None:
    if len(data) % word_bytes:
        reason = f"{len(data)} bytes are not a multiple of {word_bytes}"
        raise MalformedPayload(encoding, reason)
