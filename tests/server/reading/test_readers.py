"""Reader processes, and what becomes of a recording whose reader fails."""

from __future__ import annotations

import asyncio
import os
import signal
import zlib
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    MalformedRecording,
    ReaderMissing,
    SensorMismatch,
    UnsortedEvents,
)
from saccade.model.events.reading import ReadOptions
from saccade.model.events.sensor import Sensor
from saccade.server.reading.frames import (
    Facts,
    ReadRequest,
    error_from_plain,
    error_to_plain,
    tokens_from_bytes,
    tokens_to_bytes,
)
from saccade.server.reading.readers import Readers
from tests.toy import SENSOR, TOKENIZATION, some_events


@pytest.fixture
async def readers() -> Any:
    found = Readers(count=1)
    yield found
    await found.close()


def table(path: Path, count: int) -> ReadRequest:
    np.save(path.with_suffix(".npy"), some_events(count))
    return ReadRequest(
        path.with_suffix(".npy"), TOKENIZATION, ReadOptions(sensor=SENSOR)
    )


async def events_of(reading: Any) -> list[Any]:
    return [each async for chunk in reading.chunks() for each in chunk.tokens.tolist()]


def test_a_request_is_received_as_it_was_sent() -> None:
    options = ReadOptions(Sensor(4, 4, 1), None, "DVS128", "2", ("t", "x"), "read")
    sent = ReadRequest(Path("a/é.csv"), TOKENIZATION, options, 31, "crop", "skip", 9)
    assert ReadRequest.decode(sent.encode()[4:]) == sent
    facts = Facts(3, "event 4", ("a", "b"))
    assert Facts.decode(facts.encode()) == facts


def test_tokens_are_received_as_they_were_sent_and_no_others() -> None:
    chunk = TOKENIZATION.timed(some_events(9))
    content = tokens_to_bytes(chunk)
    received = tokens_from_bytes(content, TOKENIZATION.num_tokens)
    assert received.tokens.tolist() == chunk.tokens.tolist()
    assert received.t_us.tolist() == chunk.t_us.tolist()
    assert len(tokens_from_bytes(b"", 1).tokens) == 0
    largest = int(chunk.tokens.max())
    for wrong, vocabulary in ((content, largest), (content[:-1], largest + 1)):
        with pytest.raises(ValueError, match="hold no tokens"):
            tokens_from_bytes(wrong, vocabulary)


@pytest.mark.parametrize(
    "error",
    [
        EventOutsideSensor(3, "x", 9, 4),
        MalformedRecording(Path(), "truncated"),
        ReaderMissing("h5py", "hdf5"),
        SensorMismatch(Sensor(9, 9, 1), SENSOR),
        UnsortedEvents(1, 2, 3),
    ],
)
def test_an_error_is_received_as_it_was_met(error: EventsError) -> None:
    received = error_from_plain(error_to_plain(error))
    assert (type(received), str(received)) == (type(error), str(error))


def test_an_error_that_no_reader_reports_is_refused() -> None:
    with pytest.raises(ValueError, match="SystemExit"):
        error_from_plain(["SystemExit", []])


async def test_a_reader_that_dies_costs_the_recording_that_it_read(
    readers: Readers, tmp_path: Path
) -> None:
    requests = [table(tmp_path / f"{n}", 4) for n in range(4)]
    requests[1] = table(tmp_path / "long", 500_000)
    async with readers.reading(requests) as readings:
        assert len(await events_of(readings[0])) == 4
        async with aclosing(readings[1].chunks()) as chunks:
            assert len((await anext(chunks)).tokens)
            (process,) = children()
            os.kill(process, signal.SIGKILL)
            with pytest.raises(MalformedRecording, match="ended with status -9"):
                async for _ in chunks:
                    pass
        for reading in readings[2:]:
            assert len(await events_of(reading)) == 4


STRANGERS: set[int] = set()
"""Reader processes of servers that other tests have begun in this process."""


@pytest.fixture(autouse=True)
def count_strangers() -> None:
    STRANGERS.clear()
    STRANGERS.update(children())


def children() -> list[int]:
    """Return the reader processes that a test has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            own = f"PPid:\t{os.getpid()}\n" in (path / "status").read_text()
            if int(path.name) in STRANGERS:
                continue
            if own and b"saccade-reader" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


async def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    readers = Readers(count=1, frame_s=0.0)
    async with readers.reading([table(tmp_path / "a", 4)]) as (reading,):
        with pytest.raises(MalformedRecording, match="took longer than 0 s"):
            await events_of(reading)
    assert not children()
    await readers.close()


async def test_idle_readers_end(tmp_path: Path) -> None:
    readers = Readers(count=1, idle_s=0.0)
    async with readers.reading([table(tmp_path / "a", 4)]) as (reading,):
        assert len(await events_of(reading)) == 4
        assert children()
    while children():  # noqa: ASYNC110 (another process ends)
        await asyncio.sleep(0.01)
    await readers.close()


async def test_a_recording_that_nobody_takes_ends_its_reader(
    readers: Readers, tmp_path: Path
) -> None:
    long = table(tmp_path / "long", 500_000)
    async with readers.reading([long]) as (reading,):
        await reading.begun.wait()
    async with readers.reading([table(tmp_path / "a", 4)]) as (reading,):
        assert len(await events_of(reading)) == 4


async def test_a_recording_takes_no_more_memory_than_it_may(
    readers: Readers, tmp_path: Path
) -> None:
    bomb = write_bomb(tmp_path / "bomb.h5", gigabytes=4)
    assert bomb.stat().st_size < 20_000_000
    async with readers.reading([ReadRequest(bomb, TOKENIZATION)]) as (reading,):
        with pytest.raises(MalformedRecording, match=r"memory|allocate"):
            await events_of(reading)
    async with readers.reading([table(tmp_path / "a", 4)]) as (reading,):
        assert len(await events_of(reading)) == 4


def write_bomb(path: Path, gigabytes: int) -> Path:
    """Write events of 64 MiB each, which take little when compressed."""
    names, kinds = ("t", "x", "y", "p", "junk"), ("i8", "i2", "i2", "i2", "V67108850")
    row = np.dtype([*zip(names, kinds, strict=True)])
    with h5py.File(path, "w") as file:
        count = gigabytes * 16
        data = file.create_dataset("a", (count,), row, chunks=(1,), compression=1)
        packed = zlib.compress(bytes(row.itemsize), 1)
        for place in range(count):
            data.id.write_direct_chunk((place,), packed)
    return path


async def test_a_reader_knows_none_of_the_servers_keys(
    readers: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_KEYS", "ann:secret")
    monkeypatch.setenv("SACCADE_STORE_URL", "redis://:secret@a")
    async with readers.reading([table(tmp_path / "a", 4)]) as (reading,):
        await events_of(reading)
    (process,) = children()
    assert b":secret" not in environment_of(process)


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()
