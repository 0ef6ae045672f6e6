"""Where a call's time goes on the device: its kernels, traced by JAX's profiler."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
from jax.profiler import ProfileData

from benchmarks.accelerator.calls import Calls, batches
from benchmarks.accelerator.ceilings import Result, wait
from benchmarks.accelerator.sizes import Sizes
from saccade.server.engine.scheduler import Bucket

CALLS: Final = 20
SHOWN: Final = 12
DEVICE: Final = "/device:"
STREAM: Final = "Stream"
OPERATION: Final = "hlo_op"
"""The statistic that events of compiled operations have."""


class Kernel(NamedTuple):
    """One kernel that ran, or on a CPU one operation."""

    name: str
    us: float


def measure(calls: Calls, sizes: Sizes) -> dict[str, Result]:
    """Return the kernels of each bucket that take longest."""
    return {str(bucket): _summary(_traced(calls, bucket)) for bucket in sizes.compared}


def _traced(calls: Calls, bucket: Bucket) -> list[Kernel]:
    words = [jax.device_put(each) for each in batches(bucket)]
    calls.reset(bucket.rows)
    wait(calls.advance(bucket, words[0]))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for each in islice(cycle(words), CALLS):
                wait(calls.advance(bucket, each))
        return [one for path in Path(folder).rglob("*.xplane.pb") for one in read(path)]


def read(path: Path) -> Iterator[Kernel]:
    """Yield the kernels of a trace file."""
    yield from kernels([*ProfileData.from_file(str(path)).planes])


def kernels(planes: Sequence[Any]) -> Iterator[Kernel]:
    """Yield what ran: a device's kernels and copies, or the operations of a host.

    A device's plane may also hold lines that the profiler derives from its streams.
    """
    for line in _lines([one for one in planes if one.name.startswith(DEVICE)]):
        if line.name.startswith(STREAM):
            yield from (Kernel(one.name, one.duration_ns / 1e3) for one in line.events)
    if any(one.name.startswith(DEVICE) for one in planes):
        return
    for line in _lines(planes):
        for event in line.events:
            if any(name == OPERATION for name, _ in event.stats):
                yield Kernel(event.name, event.duration_ns / 1e3)


def _lines(planes: Sequence[Any]) -> Iterator[Any]:
    return (line for plane in planes for line in plane.lines)


def _summary(ran: list[Kernel]) -> Result:
    """Return the sums by kernel, a call, the longest first."""
    totals: defaultdict[str, list[float]] = defaultdict(list)
    for kernel in ran:
        totals[kernel.name].append(kernel.us)
    all_us = sum(kernel.us for kernel in ran)
    longest = sorted(totals.items(), key=lambda one: -sum(one[1]))[:SHOWN]
    return {
        "kernels_a_call": len(ran) / CALLS,
        "us_a_call": all_us / CALLS,
        "longest": [
            {
                "name": name,
                "runs_a_call": len(us) / CALLS,
                "us_a_call": sum(us) / CALLS,
                "share": sum(us) / all_us,
            }
            for name, us in longest
        ],
    }
