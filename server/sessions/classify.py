"""Classification of a whole recording, through the calls that a live session uses."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from saccade.model.tokens import GapCounter, TimedTokens
from saccade.server.engine.client import EngineClient, EngineStream
from saccade.server.engine.errors import EngineError, EngineFailed
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import TickScores
from saccade.server.sessions.signal import Signal
from saccade.server.sessions.wire_errors import to_wire_error


class Classification(NamedTuple):
    """The scores of one recording.

    Attributes:
        last: After each of the last whole ticks; None before the first.
        events: Scored events.
        ticks: Scored ticks.
        pending: Events after the last whole tick, which no score includes.
    """

    last: TickScores | None
    events: int
    ticks: int
    pending: int


class _Scores:
    """The scores of one recording so far; the stream's `OutputHandler`."""

    def __init__(self) -> None:
        self.ticks = 0
        self.last: TickScores | None = None
        self._error: EngineError | None = None
        self._wanted = 0
        self._signal = Signal()

    def scored(self, scores: TickScores) -> None:
        self.ticks += len(scores.logits)
        self.last = scores
        if not scores.finite:
            self._error = EngineFailed("a score is not finite")
        if self._settled():  # otherwise each tick would wake the task that waits
            self._signal.notify()

    def failed(self, error: EngineError) -> None:
        self._error = error
        self._signal.notify()

    def _settled(self) -> bool:
        return self.ticks >= self._wanted or self._error is not None

    async def wait_for(self, ticks: int) -> None:
        """Wait until so many ticks are scored.

        Raises:
            ProtocolError: The engine failed.
        """
        self._wanted = ticks
        await self._signal.wait_for(self._settled)
        if self._error is not None:
            raise to_wire_error(self._error)


async def classify(
    client: EngineClient,
    model: ServedModel,
    chunks: AsyncIterator[TimedTokens],
    window_events: int,
    half_life_ms: float = math.inf,
) -> Classification:
    """Score a recording; at most about two windows of it wait at any time.

    Args:
        client: The engine that scores it.
        model: The model that scores it.
        chunks: Its events as the model's tokens, in order of time.
        window_events: Events that may wait before the next chunk is read.
        half_life_ms: How fast the scores forget, ms.

    Raises:
        ProtocolError: The engine has no place, or failed.
    """
    scores = _Scores()
    try:
        stream = client.open(model.key, half_life_ms, scores)
    except EngineError as error:
        raise to_wire_error(error) from None
    try:
        return await _score(stream, model, chunks, scores, window_events)
    finally:
        stream.close()


async def _score(
    stream: EngineStream,
    model: ServedModel,
    chunks: AsyncIterator[TimedTokens],
    scores: _Scores,
    window_events: int,
) -> Classification:
    gaps, size = GapCounter(model.timestep), model.tick_events
    submitted = 0
    async for chunk in chunks:
        for piece in _cut(chunk, window_events):
            await scores.wait_for((submitted - window_events) // size)
            tokens = gaps.take(piece)
            submitted += len(tokens.tokens)
            stream.submit(tokens)
    ticks, rest = divmod(submitted, size)
    await scores.wait_for(ticks)
    pending = rest + gaps.held_back
    return Classification(scores.last, ticks * size, ticks, pending)


def _cut(chunk: TimedTokens, size: int) -> Iterator[TimedTokens]:
    for start in range(0, len(chunk.tokens), size):
        part = slice(start, start + size)
        yield TimedTokens(chunk.tokens[part], chunk.t_us[part])
