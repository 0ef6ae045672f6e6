"""Recordings of a body that is in memory: from what came to a model's tokens.

All of it runs on another thread than the event loop's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

from saccade.model.events.encodings.packed import (
    RECORD_DTYPE,
    Records,
    unpack_records,
)
from saccade.model.events.errors import EventsError
from saccade.model.events.fit import fit
from saccade.model.events.sensor import Sensor
from saccade.model.events.tolerance import Skipped, Tolerance
from saccade.model.events.types import Events
from saccade.model.ingest import IngestConfig
from saccade.model.tokens import TimedTokens, Tokenization
from saccade.server.protocol.ingest import fastest
from saccade.server.transport.classify_bodies import Choices
from saccade.server.transport.problems import Problem, from_events

GROUP_EVENTS: Final = 1 << 15
"""Recordings are prepared in groups of about so many events: the first are scored while
the next are prepared."""

Given: TypeAlias = Events | Records | Problem
"""A recording as it came, or what is wrong with it; both arrays are structured."""


class Prepared(NamedTuple):
    """A recording's tokens, and what was left out of it."""

    chunk: TimedTokens
    skipped: Skipped


class Preparation(NamedTuple):
    """How the recordings of a request become tokens.

    Attributes:
        choices: What to do with events that do not pass or fit.
        source: The recordings' own sensor.
        tokenization: The model's.
    """

    choices: Choices
    source: Sensor
    tokenization: Tokenization

    def prepare(self, group: Sequence[Given], first: int) -> list[Prepared | Problem]:
        """Check recordings, fit them to the model's sensor, and make tokens of them.

        Args:
            group: The recordings.
            first: The number of the first in the request.

        Raises:
            Problem: Of the first that does not pass, where the request is not partial.
        """
        found: list[Prepared | Problem] = []
        for number, given in enumerate(group, first):
            try:
                found.append(self._prepare_one(given, number))
            except Problem as problem:
                if not self.choices.partial:
                    raise
                found.append(problem)
        return found

    def _prepare_one(self, given: Given, number: int) -> Prepared:
        if isinstance(given, Problem):
            raise given
        if self.choices.invalid == "reject" and not self.choices.sort_within_us:
            with suppress(EventsError):  # which the steps below raise, in their order
                return Prepared(self._in_one_pass(given), Skipped())
        try:
            return self._by_steps(given)
        except EventsError as error:
            raise from_events(error, number) from None

    def _in_one_pass(self, given: Events | Records) -> TimedTokens:
        ingest = fastest()(
            IngestConfig(self.source, self.tokenization, self.choices.fit)
        )
        if given.dtype == RECORD_DTYPE:
            return ingest.take_records(given, 0)
        return ingest.take_events(given)

    def _by_steps(self, given: Events | Records) -> Prepared:
        events = unpack_records(given, 0) if given.dtype == RECORD_DTYPE else given
        choices, target = self.choices, self.tokenization.sensor
        tolerance = Tolerance(self.source, choices.invalid, choices.sort_within_us)
        fitted = fit(tolerance.whole(events), self.source, target, choices.fit)
        return Prepared(self.tokenization.timed(fitted), tolerance.skipped)


def groups_of(recordings: Sequence[Given], events: int) -> Iterator[slice]:
    """Cut recordings into groups of at least so many events, but the last."""
    start = held = 0
    for number, given in enumerate(recordings):
        held += 0 if isinstance(given, Problem) else len(given)
        if held >= events:
            yield slice(start, number + 1)
            start, held = number + 1, 0
    if start < len(recordings):
        yield slice(start, len(recordings))
