"""What a GPU would run, held to a budget where there is none.

Buckets of dvs/small are compiled for an NVIDIA H200 as `h200` says. On one, a call of
few events is as long as its launches take, about 1.5 µs a kernel in a CUDA graph; a
copy of the pool is as long as the pool is large; and a loop waits for each iteration.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.model.h200 import Facts, compile_there, missing

KERNELS: Final = {"1x1": 75, "1x16": 100, "64x1": 85, "256x4": 110, "1024x1": 100}
"""Kernels and copies of one call, at most, by bucket."""

TEMPORARY_BYTES: Final = 1 << 30
REASON: Final = missing()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
every_bucket = pytest.mark.parametrize("bucket", KERNELS)


@pytest.fixture(scope="module")
def compiled() -> dict[str, Facts]:
    """The buckets, compiled in one process."""
    return compile_there("dvs/small", KERNELS)


@every_bucket
def test_a_call_launches_few_kernels(compiled: dict[str, Facts], bucket: str) -> None:
    assert compiled[bucket].kernels <= KERNELS[bucket]


@every_bucket
def test_a_call_is_one_graph_without_a_loop(
    compiled: dict[str, Facts], bucket: str
) -> None:
    facts = compiled[bucket]
    assert facts.loops == []
    assert (facts.graphs, facts.outside_graphs) == (1, 0)


@every_bucket
def test_the_pool_is_moved_in_place(compiled: dict[str, Facts], bucket: str) -> None:
    facts = compiled[bucket]
    assert facts.pool_copies == []
    assert facts.pool_in_place


@every_bucket
def test_a_call_needs_less_than_a_gibibyte(
    compiled: dict[str, Facts], bucket: str
) -> None:
    assert compiled[bucket].temporary_bytes < TEMPORARY_BYTES


@every_bucket
def test_every_product_is_as_exact_as_float32(
    compiled: dict[str, Facts], bucket: str
) -> None:
    facts = compiled[bucket]
    assert facts.products > 0
    assert facts.inexact == []
    assert facts.inexact_compiled == []
    assert facts.tensor_core_kernels == [] or facts.split_products > 0
