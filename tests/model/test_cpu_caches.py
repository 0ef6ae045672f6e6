"""Blocks of work take their sizes from the caches that the system tells of."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade.model.cache_blocking import most_events
from saccade.model.cpu_caches import ASSUMED_BYTES, cache_bytes, share_bytes


def caches(folder: Path, *rows: tuple[str, str, str, str]) -> Path:
    names = ("level", "type", "size", "shared_cpu_list")
    for place, row in enumerate(rows):
        index = folder / f"index{place}"
        index.mkdir(parents=True)
        for name, text in zip(names, row, strict=True):
            (index / name).write_text(f"{text}\n")
    return folder


ZEN_3 = (
    ("1", "Data", "32K", "0,64"),
    ("1", "Instruction", "32K", "0,64"),
    ("2", "Unified", "512K", "0,64"),
    ("3", "Unified", "32768K", "0-7,64-71"),
)
"""As Linux tells of a server's core with two threads."""


def test_a_threads_share_of_a_cache_is_that_of_the_cpus_that_share_it(tmp_path) -> None:
    folder = caches(tmp_path, *ZEN_3)
    assert cache_bytes(2, folder) == 1 << 19
    assert share_bytes(2, folder) == 1 << 18
    assert cache_bytes(3, folder) == 1 << 25
    assert share_bytes(3, folder) == (1 << 25) // 16


@pytest.mark.parametrize(
    "row",
    [
        ("2", "Instruction", "1024K", "0"),
        ("2", "Unified", "much", "0"),
        ("1", "Unified", "64K", "0"),
    ],
    ids=["of instructions", "without a size", "of another level"],
)
def test_what_no_cache_of_the_level_tells_is_assumed(tmp_path, row) -> None:
    assert cache_bytes(2, caches(tmp_path, row)) == ASSUMED_BYTES[2]
    assert share_bytes(2, tmp_path / "nowhere") == ASSUMED_BYTES[2]


@pytest.mark.parametrize(("mib", "events"), [(2, 4096), (16, 8192), (32, 16384)])
def test_xla_runs_blocks_whose_events_fit_the_last_cache(mib: int, events: int) -> None:
    assert most_events(mib << 20) == events


def test_however_large_or_small_a_cache_is_blocks_stay_of_a_useful_size() -> None:
    assert (most_events(0), most_events(1 << 30)) == (4096, 16384)
    machine = pytest.importorskip("saccade.model.cpu_kernels.machine")
    assert (machine.block_rows(0), machine.block_rows(1 << 30)) == (16, 64)


@pytest.mark.parametrize(("kib", "rows"), [(256, 16), (512, 32), (1024, 64)])
def test_the_kernels_blocks_fit_a_threads_share_of_the_second_cache(
    kib: int, rows: int
) -> None:
    machine = pytest.importorskip("saccade.model.cpu_kernels.machine")
    assert machine.block_rows(kib << 10) == rows
