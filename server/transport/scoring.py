"""Recordings of one request, scored side by side; used by every route that scores."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

from fastapi import Request

from saccade.model.events.errors import EventsError
from saccade.model.events.reading import ReadOptions
from saccade.model.events.tolerance import Skipped
from saccade.model.tokens import TimedTokens, Tokenization
from saccade.server.engine.model_registry import ServedModel
from saccade.server.reading.frames import ReadRequest
from saccade.server.reading.readers import COUNT, Reading
from saccade.server.sessions.classify import Classification, classify
from saccade.server.transport.classify_bodies import (
    Choices,
    ClassifyForm,
    RecordingScores,
)
from saccade.server.transport.multipart import UploadedFile
from saccade.server.transport.problems import Problem, from_events, which_recording
from saccade.server.transport.rate_limits import KeyQuota
from saccade.server.transport.recordings import (
    GROUP_EVENTS,
    Given,
    Preparation,
    Prepared,
    groups_of,
)
from saccade.server.transport.service import Service

WINDOW_EVENTS: Final = 1 << 16
"""Events of one recording that may wait for the device, at most."""

GROUP_BYTES: Final = 1 << 20
GROUP_FILES: Final = 64
"""Short files are read in groups: at most so many, of at most so many bytes."""

Result = TypeVar("Result")


class Job(NamedTuple):
    """A file to read and score.

    Attributes:
        request: How it is read.
        number: Its place in the request.
        name: Its name at the client; empty where it has none.
    """

    request: ReadRequest
    number: int
    name: str


class Scorer:
    """Scores one request's recordings by one model.

    Where the request is partial, a recording's problem is its answer; otherwise the
    first problem ends all, and is raised.

    Args:
        service: The server.
        model: The model.
        choices: How.
        budget: The events that the request may hold.
    """

    def __init__(
        self,
        service: Service,
        model: ServedModel,
        choices: Choices,
        budget: EventBudget,
    ) -> None:
        self._service = service
        self._model = model
        self._partial = choices.partial
        self._budget = budget
        self._half_life_ms = choices.half_life_ms or float("inf")

    async def score_all(
        self, recordings: Sequence[Given], preparation: Preparation
    ) -> list[RecordingScores]:
        """Score recordings that are in memory; return their scores in order.

        Those that are ready are scored while others are prepared on another thread.

        Raises:
            Problem: One cannot be scored, and the request is not partial.
            ProtocolError: The engine has no place for a recording, or failed.
        """
        async with Together[RecordingScores]() as works:
            for part in groups_of(recordings, GROUP_EVENTS):
                prepare = partial(preparation.prepare, recordings[part], part.start)
                for each in await asyncio.to_thread(prepare):
                    works.begin(self._settled(partial(self._score, each)))
            return await works.results()

    async def score_files(self, jobs: Sequence[Job]) -> list[RecordingScores]:
        """Read files and score them meanwhile; return their scores in order.

        Raises:
            Problem: One cannot be scored, and the request is not partial.
            ProtocolError: The engine has no place for a recording, or failed.
        """
        groups = await asyncio.to_thread(grouped, jobs, GROUP_BYTES, GROUP_FILES)
        found = await together(self._score_group(group) for group in groups)
        return [scores for group in found for scores in group]

    async def _score(self, recording: Prepared | Problem) -> RecordingScores:
        if isinstance(recording, Problem):
            raise recording
        chunk, skipped = recording
        result = await self._classify(_once(chunk))
        self._count(result, skipped.events)
        return scores_of(result, self._model, skipped)

    async def _score_group(self, jobs: Sequence[Job]) -> list[RecordingScores]:
        requests = [job.request for job in jobs]
        async with self._service.readers.reading(requests) as readings:
            return await together(
                self._settled(partial(self._score_file, job, reading), job.name)
                for job, reading in zip(jobs, readings, strict=True)
            )

    async def _score_file(self, job: Job, reading: Reading) -> RecordingScores:
        await reading.begun.wait()  # it takes no place before
        try:
            chunks = self._budget.counted(reading.chunks(), job)
            result = await self._classify(chunks)
        except EventsError as error:
            raise from_events(error, job.number, job.name) from None
        facts = reading.facts
        self._count(result, facts.skipped)
        skipped = Skipped(facts.skipped, facts.skipped_first)
        found = scores_of(result, self._model, skipped)
        found.name = job.name or None
        found.sensor = reading.sensor.to_list() if reading.sensor else None
        found.warnings = [*facts.warnings]
        return found

    async def _settled(
        self, score: Callable[[], Awaitable[RecordingScores]], name: str = ""
    ) -> RecordingScores:
        try:
            return await score()
        except Problem as problem:
            if not self._partial:
                raise
            return RecordingScores(name=name or None, problem=problem.document())

    async def _classify(self, chunks: AsyncIterator[TimedTokens]) -> Classification:
        window = min(WINDOW_EVENTS, self._service.limits.window_events)
        async with self._service.scoring:
            return await classify(
                self._service.streams, self._model, chunks, window, self._half_life_ms
            )

    def _count(self, result: Classification, skipped: int) -> None:
        metrics = self._service.metrics.model(self._model.name)
        metrics.recordings.inc()
        metrics.events_received.inc(result.events + result.pending)
        metrics.events_skipped.inc(skipped)


class EventBudget:
    """The events that the files of one request may hold, together.

    Args:
        limit: How many.
        quota: The key's, which each event is charged to.
    """

    def __init__(self, limit: int, quota: KeyQuota) -> None:
        self._limit = limit
        self._left = limit
        self._quota = quota

    async def counted(
        self, chunks: AsyncIterator[TimedTokens], job: Job
    ) -> AsyncIterator[TimedTokens]:
        """Yield a file's chunks.

        Raises:
            Problem: There are too many events.
        """
        async for chunk in chunks:
            count = len(chunk.tokens)
            self._left -= count
            if self._left < 0:
                detail = f"one request may hold {self._limit:,} events"
                detail = f"{which_recording(job.number, job.name)}: {detail}"
                raise Problem(413, "too_many_events", detail, recording=job.number)
            self._quota.charge(events=count)
            yield chunk


def read_request(
    form: ClassifyForm, file: UploadedFile, tokenization: Tokenization
) -> ReadRequest:
    """Return how a file of a form is to be read for a model."""
    path = file.path
    if form.format is not None:  # it came after the file, or the name says another
        path = path.rename(path.with_suffix(f".{form.format}"))
    options = ReadOptions(
        sensor=form.sensor,
        model_sensor=tokenization.sensor,
        chip=form.chip,
        camera=form.camera,
        columns=form.columns,
        truncated=form.truncated,
    )
    return ReadRequest(
        path,
        tokenization,
        options,
        form.clock_bits,
        form.fit,
        form.invalid,
        form.sort_within_us,
    )


def grouped(jobs: Sequence[Job], most_bytes: int, most: int) -> list[list[Job]]:
    """Put short files together, in order; a long one is a group of its own.

    Args:
        jobs: The files.
        most_bytes: The bytes of a group.
        most: The files of a group; fewer where all would be in one.
    """
    most = min(most, -(-len(jobs) // COUNT))
    groups: list[list[Job]] = []
    left = 0
    for job in jobs:
        size = job.request.path.stat().st_size
        if not groups or size > left or len(groups[-1]) == most:
            groups.append([])
            left = most_bytes
        groups[-1].append(job)
        left -= size
    return groups


class Together(Generic[Result]):
    """Coroutines that run side by side, and end with the context.

    The first error that `results` meets cancels the others, and is raised.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Result]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, work: Coroutine[Any, Any, Result]) -> None:
        """Run a coroutine from now on."""
        self._tasks.append(asyncio.create_task(work))

    async def results(self) -> list[Result]:
        """Return the results of all, in the order of their beginning."""
        return list(await asyncio.gather(*self._tasks))


async def together(works: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run coroutines side by side; return their results in order, as `Together`."""
    async with Together[Result]() as begun:
        for work in works:
            begun.begin(work)
        return await begun.results()


async def _once(chunk: TimedTokens) -> AsyncIterator[TimedTokens]:
    """Yield a recording that is in memory as one chunk."""
    yield chunk


def scores_of(
    result: Classification, model: ServedModel, skipped: Skipped
) -> RecordingScores:
    """Write one recording's scores."""
    label, confidence, logits = None, None, None
    if result.last is not None:
        label = model.labels[int(result.last.top[-1])]
        confidence = float(result.last.confidence[-1])
        logits = result.last.logits[-1].tolist()
    return RecordingScores(
        label=label,
        confidence=confidence,
        logits=logits,
        events=result.events,
        ticks=result.ticks,
        pending=result.pending,
        skipped=skipped.events,
        skipped_first=skipped.first,
    )


async def unless_client_leaves(
    request: Request, work: Coroutine[Any, Any, Result]
) -> Result:
    """Return what work returns; end it where the request's client leaves before.

    Args:
        request: The request, whose body was received whole.
        work: Answers it.

    Raises:
        Problem: The client has left; nobody receives the answer.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Problem(400, "client_left", "the client left before its answer")
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
