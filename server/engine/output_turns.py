"""Outputs that wait for the event loop, and whose turn it is to have theirs handled.

An event loop that handled all that waits would read and send nothing meanwhile. So it
handles a part in each of its turns, of those leases first that have had the fewest
ticks: one that asks for little waits for none of those that ask for much. What waits
of a lease is joined, since handling costs by the lease, not by the tick.

Plain values in, plain values out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import EngineOutput, TickScores
from saccade.server.fair_queue import FairQueue

TURN_TICKS: Final = 64
"""Ticks that a lease is given before it is the turn of another that waits."""

ALONE_TICKS: Final = 512
"""The same where no other waits; a client's writer must have its turn before more
results wait than may."""


class OutputTurns:
    """The outputs that wait, by lease; each lease's in order.

    Attributes:
        taken: Ticks that `take` has returned so far.
    """

    def __init__(self) -> None:
        self._waiting: dict[Lease, list[EngineOutput]] = {}
        self._line = FairQueue[Lease]()
        self.taken = 0

    def __bool__(self) -> bool:
        return bool(self._line)

    def add(self, outputs: Iterable[EngineOutput]) -> None:
        """Let outputs wait, behind those of the same lease."""
        for output in outputs:
            waiting = self._waiting.get(output.lease)
            if waiting is None:
                self._waiting[output.lease] = [output]
                self._line.enter(output.lease, TURN_TICKS)
            else:
                waiting.append(output)

    def take(self) -> list[EngineOutput]:
        """Remove and return the outputs of the lease whose turn it is."""
        while self._line:
            most = TURN_TICKS if len(self._line) > 1 else ALONE_TICKS
            lease = self._line.take()
            outputs = self._waiting.get(lease)
            if outputs is None:
                continue  # it has ended
            count, ticks = _within(outputs, most)
            self._line.serve(lease, ticks)
            self.taken += ticks
            if count == len(outputs):
                del self._waiting[lease]
                return outputs if count == 1 else _joined(outputs)
            self._waiting[lease] = outputs[count:]
            self._line.enter(lease)
            return _joined(outputs[:count])
        return []

    def count(self, lease: Lease, ticks: int) -> None:
        """Count ticks that a lease was given without waiting here."""
        self._line.serve(lease, ticks)

    def forget(self, lease: Lease) -> None:
        """Forget a lease that has ended, and what waits of it."""
        self._line.forget(lease)
        self._waiting.pop(lease, None)


def _within(outputs: list[EngineOutput], most: int) -> tuple[int, int]:
    """Return how many outputs to take, at least one, and the ticks in them."""
    ticks = count = 0
    for output in outputs:
        more = len(output.t_us) if type(output) is TickScores else 0
        if count and ticks + more > most:
            break
        ticks, count = ticks + more, count + 1
    return count, ticks


def _joined(outputs: list[EngineOutput]) -> list[EngineOutput]:
    """Join the scores of one lease that no other output comes between."""
    joined: list[EngineOutput] = []
    run: list[TickScores] = []
    for output in outputs:
        if isinstance(output, TickScores):
            run.append(output)
            continue
        joined += _one(run)
        joined.append(output)
        run = []
    return joined + _one(run)


def _one(run: list[TickScores]) -> list[EngineOutput]:
    if len(run) < 2:
        return [*run]
    columns = zip(*(part[1:5] for part in run), strict=True)
    finite = all(part.finite for part in run)
    logits, t_us, top, confidence = map(np.concatenate, columns)
    return [TickScores(run[0].lease, logits, t_us, top, confidence, finite)]
