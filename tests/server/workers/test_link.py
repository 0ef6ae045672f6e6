"""Workers score through the engine's sockets as its own process would."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from saccade.server.engine.client import EngineClient
from saccade.server.engine.engine import Engine
from saccade.server.engine.errors import EngineError, EngineFailed, NotReady
from saccade.server.engine.frontend import Frontend
from saccade.server.engine.health import Health
from saccade.server.engine.outputs import RowState, TickScores
from saccade.server.engine.scheduler import Bucket
from saccade.server.telemetry.spans import NoEngineSpans
from saccade.server.workers.engine_process import Channels, take_pages
from saccade.server.workers.link import CHANNEL, PAGES, ModelFacts, RemoteEngine
from tests.toy import Recorder, chunk, toy_model, toy_scores

INF = float("inf")
SLOTS = 4


class Handler:
    """Collects what one stream receives."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.error: EngineError | None = None
        self.changed = asyncio.Event()

    def scored(self, scores: TickScores) -> None:
        self.scores += scores.logits[:, 0].tolist()
        self.changed.set()

    def failed(self, error: EngineError) -> None:
        self.error = error
        self.changed.set()

    async def wait_for(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def engine_at(folder: Path) -> AsyncIterator[Channels]:
    """Run an engine with its sockets, as its process does; ended when left."""
    model, recorder = toy_model(), Recorder()
    buckets = (Bucket(1, 1), Bucket(4, 4))
    engine = Engine([model.servable], SLOTS, buckets, 1000, recorder)
    facts = [ModelFacts.of(model, current=True)]
    parts = engine.devices, lambda: engine.health, lambda: facts
    channels = Channels(*parts, NoEngineSpans())
    engine.start(lambda outputs: None)
    async with asyncio.timeout(60):
        while not engine.health.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (folder / PAGES).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / PAGES))
        listening.listen()
        arguments = (listening, engine.devices.add_arena)
        mapping = threading.Thread(target=take_pages, args=arguments)
        mapping.start()
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(channels.new, str(folder / CHANNEL))
        try:
            yield channels
        finally:
            server.close()
            channels.close()
            listening.shutdown(socket.SHUT_RDWR)
            await asyncio.to_thread(mapping.join)
            await asyncio.to_thread(engine.stop)


async def worker(folder: Path, index: int, workers: int = 2) -> EngineClient:
    """Return the streams of a worker that has connected."""
    link = RemoteEngine(folder, index)
    shapes = [each.shape for each in await link.connect()]
    share = SLOTS // workers
    slots = [range(index * share, (index + 1) * share)]
    streams = EngineClient(Frontend(link, shapes, slots, 1000, link.new_arena), 10)
    link.streams = streams
    streams.start(asyncio.get_running_loop())
    return streams


def health_of(streams: EngineClient) -> Health:
    link = streams.frontend.link
    assert isinstance(link, RemoteEngine)
    return link.health


def leave(streams: EngineClient) -> None:
    link = streams.frontend.link
    assert isinstance(link, RemoteEngine)
    link.close()


async def test_two_workers_score_each_its_own_streams(tmp_path: Path) -> None:
    tokens = [[*range(k, k + 16)] for k in range(6)]
    async with engine_at(tmp_path):
        workers = [await worker(tmp_path, index) for index in range(2)]
        handlers = [Handler() for _ in tokens]
        for k, (each, handler) in enumerate(zip(tokens, handlers, strict=True)):
            stream = workers[k % 2].open("toy", INF, handler)
            stream.submit(chunk(each))
        for each, handler in zip(tokens, handlers, strict=True):
            await handler.wait_for(lambda h=handler: len(h.scores) == 8)
            assert handler.scores == toy_scores(each)
        for streams in workers:
            leave(streams)


async def test_a_row_leaves_the_engine_and_goes_on_in_another_worker(
    tmp_path: Path,
) -> None:
    tokens = [*range(18)]
    async with engine_at(tmp_path):
        first, second = [await worker(tmp_path, index) for index in range(2)]
        before, after = Handler(), Handler()
        stream = first.open("toy", INF, before)
        stream.submit(chunk(tokens[:13]))
        exported: asyncio.Future[tuple[RowState, list[float]]]
        exported = asyncio.get_running_loop().create_future()
        stream.export(lambda row: exported.set_result((row, [*before.scores])))  # type: ignore[arg-type]
        row, seen = await exported
        assert seen == toy_scores(tokens)[: len(seen)]
        assert row.waiting.tokens.tolist() == tokens[2 * len(seen) : 13]
        resumed = second.open("toy", INF, after, row)
        resumed.submit(chunk(tokens[13:]))
        await after.wait_for(lambda: len(seen) + len(after.scores) == 9)
        assert seen + after.scores == toy_scores(tokens)
        leave(first)
        leave(second)


async def test_a_new_worker_takes_the_slots_of_one_that_has_ended(
    tmp_path: Path,
) -> None:
    async with engine_at(tmp_path):
        for tokens in ([5, 7, 9, 11], [2, 4, 6, 8]):
            streams, handler = await worker(tmp_path, 0), Handler()
            streams.open("toy", INF, handler).submit(chunk(tokens))
            await handler.wait_for(lambda h=handler: len(h.scores) == 2)
            assert handler.scores == toy_scores(tokens)
            leave(streams)


async def test_an_engine_that_ends_fails_its_sessions_and_the_next_one_serves(
    tmp_path: Path,
) -> None:
    async with engine_at(tmp_path):
        streams, lost = await worker(tmp_path, 0), Handler()
        stream = streams.open("toy", INF, lost)
    await lost.wait_for(lambda: lost.error is not None)
    assert isinstance(lost.error, EngineFailed)
    stream.close()
    with pytest.raises(NotReady):
        streams.open("toy", INF, Handler())
    async with engine_at(tmp_path):
        async with asyncio.timeout(60):
            while not health_of(streams).ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        handler = Handler()
        streams.open("toy", INF, handler).submit(chunk([1, 3, 5, 7]))
        await handler.wait_for(lambda: len(handler.scores) == 2)
        assert handler.scores == toy_scores([1, 3, 5, 7])
        leave(streams)
