"""How large a run is: the whole one for a GPU, and a quick one for any machine."""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks.accelerator.network import CONFIG
from saccade.server.engine.scheduler import Bucket, buckets_for

SLOTS: Final = 1024


class Sizes(NamedTuple):
    """The sizes of a run.

    Attributes:
        buckets: The shapes to compile.
        compared: Those of which variants are compared.
        slots: Sessions on the device.
        matrix: Rows and columns of the large product.
        copied_mib: Size of the array that is copied.
        nodes: Kernels of the graph.
        sample_s: How long one number is measured.
        engine_ticks: Ticks that each session submits at a time, one load each.
        feeders: Threads that feed the engine.
        engine_s: How long a load of the engine is measured.
    """

    buckets: tuple[Bucket, ...]
    compared: tuple[Bucket, ...]
    slots: int
    matrix: int
    copied_mib: int
    nodes: int
    sample_s: float
    engine_ticks: tuple[int, ...]
    feeders: int
    engine_s: float


def _buckets(*shapes: tuple[int, int]) -> tuple[Bucket, ...]:
    return tuple(Bucket(*shape) for shape in shapes)


FULL: Final = Sizes(
    buckets=buckets_for("cuda", SLOTS, CONFIG.tick_events),
    compared=_buckets((1, 1), (64, 1), (1024, 1)),
    slots=SLOTS,
    matrix=8192,
    copied_mib=1024,
    nodes=100,
    sample_s=1.0,
    engine_ticks=(1, 4, 16),
    feeders=4,
    engine_s=5.0,
)

QUICK: Final = Sizes(
    buckets=_buckets((1, 1), (1, 16), (16, 1)),
    compared=_buckets((1, 1)),
    slots=16,
    matrix=512,
    copied_mib=16,
    nodes=100,
    sample_s=0.1,
    engine_ticks=(1, 4),
    feeders=2,
    engine_s=0.5,
)
