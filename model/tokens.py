"""From events to tokens and integration timesteps, on the host (numpy only).

A checkpoint names its tokenization and timestep convention: a model works only with
those that it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

Scheme = Literal["linear", "product"]
TimestepConvention = Literal["preceding", "following"]
"""`preceding`: an event is paired with the gap before it (the paper; causal).
`following`: with the gap after it (the reference's code), so a stream lags by one."""

Tokens = npt.NDArray[np.int32]
TimestepsMs = npt.NDArray[np.float32]


class TimedTokens(NamedTuple):
    """Consecutive events as tokens, before their gaps are known.

    Attributes:
        tokens: (n,), int32.
        t_us: The events' timestamps, (n,), int64, µs.
    """

    tokens: Tokens
    t_us: npt.NDArray[np.int64]


NO_TOKENS: Final = TimedTokens(np.empty(0, np.int32), np.empty(0, np.int64))


class TokenChunk(NamedTuple):
    """Consecutive events as the model's inputs.

    Attributes:
        tokens: (n,), int32.
        dt_ms: Integration timesteps, (n,), float32, ms.
        t_us: The events' timestamps, (n,), int64, µs.
    """

    tokens: Tokens
    dt_ms: TimestepsMs
    t_us: npt.NDArray[np.int64]


class PrecedingChunk(NamedTuple):
    """Consecutive events, each with the gap before it, which is not computed yet.

    Attributes:
        tokens: (n,), int32.
        t_us: The events' timestamps, (n,), int64, µs.
        before_us: The timestamp before the first; its own at a stream's beginning.
    """

    tokens: Tokens
    t_us: npt.NDArray[np.int64]
    before_us: int

    def with_gaps(self) -> TokenChunk:
        """Return the events with their timesteps."""
        gaps_us = np.diff(self.t_us, prepend=np.int64(self.before_us))
        return TokenChunk(self.tokens, _in_ms(gaps_us), self.t_us)


class FollowingChunk(NamedTuple):
    """Consecutive events, each with the gap after it, which is not computed yet.

    Attributes:
        tokens: (n,), int32.
        t_us: The events' timestamps, (n,), int64, µs.
        after_us: The timestamp after the last.
    """

    tokens: Tokens
    t_us: npt.NDArray[np.int64]
    after_us: int

    def with_gaps(self) -> TokenChunk:
        """Return the events with their timesteps."""
        gaps_us = np.diff(self.t_us, append=np.int64(self.after_us))
        return TokenChunk(self.tokens, _in_ms(gaps_us), self.t_us)


TakenChunk: TypeAlias = PrecedingChunk | FollowingChunk | TokenChunk
"""Consecutive events as the model's inputs, their timesteps computed or not."""


def _in_ms(gaps_us: npt.NDArray[np.int64]) -> TimestepsMs:
    """Return gaps in ms, none negative: time may come back from a false step."""
    return (np.maximum(gaps_us, 0) / 1000.0).astype(np.float32)


@dataclass(frozen=True)
class Tokenization:
    """The map from a pixel and a polarity to a token.

    Attributes:
        scheme: `linear` is (p·H + y)·W + x; `product` is x·y + W·H·p, which
            collides, for the reference's published checkpoints.
        sensor: The geometry that events must have.
        downsample: Pixels per token along each side; W and H above are the
            sensor's, divided by it (rounded up).

    Raises:
        ValueError: The scheme is unknown or `downsample` is below 1.
    """

    scheme: Scheme
    sensor: Sensor
    downsample: int = 1

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"tokenization {self.scheme!r} is not one of {[*SCHEMES]}")
        if self.downsample < 1:
            raise ValueError(f"downsample {self.downsample} is below 1")

    @property
    def width(self) -> int:
        """Token columns."""
        return -(-self.sensor.width // self.downsample)

    @property
    def height(self) -> int:
        """Token rows."""
        return -(-self.sensor.height // self.downsample)

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary: tokens lie in [0, num_tokens)."""
        return self.width * self.height * self.sensor.polarities

    def tokenize(self, events: Events) -> Tokens:
        """Return each event's token, (n,); events must lie inside the sensor."""
        x, y = events["x"].astype(np.int32), events["y"].astype(np.int32)
        if self.downsample > 1:
            x //= self.downsample
            y //= self.downsample
        p = events["p"].astype(np.int32) if self.sensor.polarities > 1 else 0 * x
        return SCHEMES[self.scheme](x, y, p, self.width, self.height)

    def timed(self, events: Events) -> TimedTokens:
        """Return tokens and timestamps; events must lie inside the sensor."""
        return TimedTokens(
            self.tokenize(events), events["t"].astype(np.int64, order="C")
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "scheme": self.scheme,
            "sensor": list(astuple(self.sensor)),
            "downsample": self.downsample,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Tokenization:
        """Build from plain values.

        Raises:
            ValueError: A value is missing, unknown or out of range.
        """
        try:
            sensor = Sensor.from_list(values["sensor"])
            return cls(values["scheme"], sensor, values.get("downsample", 1))
        except (KeyError, TypeError) as error:
            raise ValueError(f"incomplete tokenization: {error}") from None


def _linear(x: Tokens, y: Tokens, p: Tokens, width: int, height: int) -> Tokens:
    return ((p * height + y) * width + x).astype(np.int32, copy=False)


def _product(x: Tokens, y: Tokens, p: Tokens, width: int, height: int) -> Tokens:
    return (x * y + width * height * p).astype(np.int32, copy=False)


SCHEMES: Final[dict[Scheme, Callable[..., Tokens]]] = {
    "linear": _linear,
    "product": _product,
}


class GapCounter:
    """One stream's integration timesteps, chunk by chunk.

    However the stream is cut into chunks, the concatenated output is the same.
    With `following`, the newest event is held back until its successor comes, and a
    recording's last event is never scored, as in the reference.

    Args:
        timestep: Which gap goes with an event.
    """

    def __init__(self, timestep: TimestepConvention) -> None:
        self._holds_newest = timestep == "following"
        self._newest: tuple[int, int] | None = None  # its token, and its timestamp

    @property
    def held_back(self) -> int:
        """Number of events held back until their successor comes: 1 or 0."""
        return 1 if self._holds_newest and self._newest is not None else 0

    @property
    def newest(self) -> TimedTokens:
        """The newest event, (1,), or (0,) before the first: the whole state."""
        if self._newest is None:
            return NO_TOKENS
        token, t_us = self._newest
        return TimedTokens(np.array([token], np.int32), np.array([t_us], np.int64))

    def resume(self, newest: TimedTokens) -> None:
        """Continue the stream that has `newest` as its newest event, (1,) or (0,)."""
        self.reset()
        for token, t_us in zip(newest.tokens, newest.t_us, strict=True):
            self._newest = int(token), int(t_us)

    def reset(self) -> None:
        """Forget the stream: the next event has no predecessor."""
        self._newest = None

    def feed(self, chunk: TimedTokens) -> TokenChunk:
        """Take the stream's next events, in order of time.

        Returns:
            The tokens that the model takes now, in order.
        """
        taken = self.take(chunk)
        return taken if isinstance(taken, TokenChunk) else taken.with_gaps()

    def take(self, chunk: TimedTokens) -> TakenChunk:
        """Take the next events as `feed`, and leave their gaps to be computed."""
        tokens, t_us = chunk
        if len(tokens) == 0:
            return TokenChunk(tokens, np.empty(0, np.float32), t_us)
        before = self._newest
        self._newest = tokens.item(-1), t_us.item(-1)
        if not self._holds_newest:
            before_us = t_us.item(0) if before is None else before[1]
            return PrecedingChunk(tokens, t_us, before_us)
        after_us, tokens, t_us = t_us.item(-1), tokens[:-1], t_us[:-1]
        if before is not None:
            token, before_us = before
            tokens = np.concatenate([np.array([token], np.int32), tokens])
            t_us = np.concatenate([np.array([before_us], np.int64), t_us])
        return FollowingChunk(tokens, t_us, after_us)


class Tokenizer:
    """One stream's events as tokens with their timesteps, chunk by chunk."""

    def __init__(
        self, tokenization: Tokenization, timestep: TimestepConvention
    ) -> None:
        self._tokenization = tokenization
        self._gaps = GapCounter(timestep)

    @property
    def held_back(self) -> int:
        """Number of events held back until their successor comes: 1 or 0."""
        return self._gaps.held_back

    def feed(self, events: Events) -> TokenChunk:
        """Take the stream's next events, sorted and inside the sensor.

        Returns:
            The tokens that the model takes now, in order.
        """
        return self._gaps.feed(self._tokenization.timed(events))

    def reset(self) -> None:
        """Forget the stream: the next event has no predecessor."""
        self._gaps.reset()
