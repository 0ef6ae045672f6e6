"""A whole recording through the engine: the same calls as a live session's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.types import Events
from saccade.server.engine.client import EngineClient
from saccade.server.engine.errors import EngineError, EngineFailed
from saccade.server.engine.model_registry import ServedModel
from saccade.server.engine.outputs import TickScores
from saccade.server.engine.stream import EngineStream
from saccade.server.sessions.signal import Signal
from saccade.server.sessions.wire_errors import to_wire_error


class Classification(NamedTuple):
    """The scores of one recording.

    Attributes:
        logits: After the last whole tick, `(c,)`; None before the first.
        events: Scored events.
        ticks: Scored ticks.
        pending: Events after the last whole tick, which are in no score.
    """

    logits: npt.NDArray[np.floating[Any]] | None
    events: int
    ticks: int
    pending: int


class _Tally:
    """Hears what becomes of one recording's ticks."""

    def __init__(self) -> None:
        self.ticks = 0
        self.logits: npt.NDArray[np.floating[Any]] | None = None
        self.error: EngineError | None = None
        self.pulse = Signal()

    def scored(self, scored: TickScores) -> None:
        self.ticks += len(scored.logits)
        self.logits = scored.logits[-1]
        if not np.isfinite(self.logits).all():
            self.error = EngineFailed("a score is not finite")
        self.pulse.beat()

    def failed(self, error: EngineError) -> None:
        self.error = error
        self.pulse.beat()

    async def until(self, ticks: int) -> None:
        """Wait until so many ticks are scored.

        Raises:
            ProtocolError: The engine lost them.
        """
        await self.pulse.until(lambda: self.ticks >= ticks or self.error is not None)
        if self.error is not None:
            raise to_wire_error(self.error)


async def classify(
    streams: EngineClient,
    model: ServedModel,
    chunks: AsyncIterator[Events],
    window_events: int,
) -> Classification:
    """Score a recording; at most about two windows of it wait at any time.

    Args:
        streams: Where to score it.
        model: By which model.
        chunks: Its events, checked and of the model's sensor.
        window_events: How many may wait before the next are asked for.

    Raises:
        ProtocolError: The engine has no place, or failed.
    """
    tally = _Tally()
    try:
        stream = streams.open(model.key, float("inf"), tally)
    except EngineError as error:
        raise to_wire_error(error) from None
    try:
        return await _score(stream, model, chunks, tally, window_events)
    finally:
        stream.close()


async def _score(
    stream: EngineStream,
    model: ServedModel,
    chunks: AsyncIterator[Events],
    tally: _Tally,
    window_events: int,
) -> Classification:
    tokenizer, size = model.new_tokenizer(), model.tick_events
    submitted = 0
    async for chunk in chunks:
        for piece in _cut(chunk, window_events):
            await tally.until((submitted - window_events) // size)
            tokens = tokenizer.feed(piece)
            submitted += len(tokens.tokens)
            stream.submit(tokens)
    ticks, rest = divmod(submitted, size)
    await tally.until(ticks)
    return Classification(tally.logits, ticks * size, ticks, rest + tokenizer.held_back)


def _cut(events: Events, size: int) -> Iterator[Events]:
    for start in range(0, len(events), size):
        yield events[start : start + size]
