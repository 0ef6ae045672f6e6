"""A reader process: reads one recording after another for the server.

It keeps no secret, writes no file, and may take so much memory and no more. It imports
neither JAX nor anything of the server that has a socket.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final

import msgpack
import numpy as np

from saccade.model.events.errors import (
    EventOutsideSensor,
    EventsError,
    MalformedRecording,
    UnsortedEvents,
)
from saccade.model.events.fit import fit
from saccade.model.events.recordings import Recording, open_recording
from saccade.model.events.tolerance import Tolerance
from saccade.model.events.types import Events
from saccade.server.reading.frames import (
    CHUNK_EVENTS,
    DONE,
    EVENTS,
    FAILED,
    LENGTH,
    MOST_BYTES,
    OPENED,
    REPORTED,
    Facts,
    ReadRequest,
    error_to_plain,
    frame,
    tokens_to_bytes,
)

MEMORY_BYTES: Final = 1 << 30
"""What reading may take, beyond the process itself. HDF5 decompresses chunks of up to
128 MiB whole."""
FLUSHED_BYTES: Final = 1 << 16


NICENESS: Final = 5
"""Live sessions go before files."""


def main() -> None:
    """Read the recordings that are asked for on standard input, until that ends."""
    os.nice(NICENESS)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # a group's are for the server
    answers = os.fdopen(os.dup(1), "wb", MOST_BYTES)
    os.dup2(2, 1)  # a library that prints does not print into the answers
    limit_resources()
    requests = sys.stdin.buffer
    while length := requests.read(LENGTH.size):
        (size,) = LENGTH.unpack(length)
        with suppress(BrokenPipeError):
            answer(ReadRequest.decode(requests.read(size)), answers)


def limit_resources() -> None:
    """Limit memory; forbid to write files and to dump memory into one."""
    if sys.platform == "win32":
        return
    import resource

    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    with suppress(OSError, ValueError), open("/proc/self/statm") as file:
        own_bytes = int(file.read().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = own_bytes + MEMORY_BYTES
    for name, limit in limits.items():
        with suppress(OSError, ValueError):  # a limit that is lower already
            resource.setrlimit(name, (limit, limit))


def answer(request: ReadRequest, answers: BinaryIO) -> None:
    """Write the frames of one recording, the last of which is `DONE` or `FAILED`."""
    failure: EventsError
    try:
        for each in read(request):
            answers.write(each)
            if len(each) >= FLUSHED_BYTES:  # what is short goes with the next
                answers.flush()
        answers.flush()
        return
    except REPORTED as error:
        failure = error
    except EventsError as error:
        failure = MalformedRecording(request.path, str(error))
    except MemoryError:
        reason = "it takes more memory than a recording may"
        failure = MalformedRecording(request.path, reason)
    except BrokenPipeError:
        raise
    except Exception as error:  # a library's own, about a file that no reader expects
        reason = f"its reader failed: {type(error).__name__}: {error}"
        failure = MalformedRecording(request.path, reason[:300])
    answers.write(frame(FAILED, msgpack.packb(error_to_plain(failure))))
    answers.flush()


def read(request: ReadRequest) -> Iterator[bytes]:
    """Yield the frames of a recording that can be read.

    Raises:
        EventsError: It cannot, or its events do not pass.
    """
    recording = open_recording(
        request.path, clock_bits=request.clock_bits, options=request.options
    )
    yield frame(OPENED, msgpack.packb(recording.sensor.to_list()))
    tolerance = Tolerance(recording.sensor, request.invalid, request.sort_within_us)
    for events in checked(recording, tolerance):
        fitted = fit(events, recording.sensor, request.target.sensor, request.fit)
        for start in range(0, len(fitted), CHUNK_EVENTS):
            chunk = request.target.timed(fitted[start : start + CHUNK_EVENTS])
            yield frame(EVENTS, tokens_to_bytes(chunk))
    skipped = tolerance.skipped
    facts = Facts(skipped.events, skipped.first, tuple(_warnings(recording)))
    yield frame(DONE, facts.encode())


def checked(recording: Recording, tolerance: Tolerance) -> Iterator[Events]:
    """Yield a recording's valid events; an error counts them from its first."""
    taken = 0
    try:
        for events in recording.events:
            yield (valid := tolerance.take(np.ascontiguousarray(events)))
            taken += len(valid)
        yield tolerance.rest()
    except (EventOutsideSensor, UnsortedEvents) as error:
        error.index += taken
        raise


def _warnings(recording: Recording) -> Iterator[str]:
    """Yield what was met in a file beside its events."""
    if recording.origin == "guess":
        yield f"its sensor is guessed to be {recording.sensor}"
    yield from recording.findings.warnings
    skipped = recording.findings.skipped
    if skipped:
        yield f"skipped {', '.join(f'{n:,} {kind}' for kind, n in skipped.items())}"
