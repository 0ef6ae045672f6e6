"""A server's quota of CPU time is set by files of either version of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.quota import Group, NoGroups, group_of


def test_a_group_of_the_newer_version_has_its_quota_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 9\nthrottled_usec 2500000\n")
    group = Group(tmp_path)
    group.limit(1.5)
    assert (tmp_path / "cpu.max").read_text() == "150000 100000"
    assert group.throttled_s() == 2.5
    group.limit(None)
    assert (tmp_path / "cpu.max").read_text() == "max 100000"


def test_a_group_of_the_older_version_has_it_in_two(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("nr_throttled 3\nthrottled_time 500000000\n")
    group = Group(tmp_path)
    group.limit(0.5)
    assert (tmp_path / "cpu.cfs_quota_us").read_text() == "50000"
    assert (tmp_path / "cpu.cfs_period_us").read_text() == "100000"
    assert group.throttled_s() == 0.5
    group.limit(None)
    assert (tmp_path / "cpu.cfs_quota_us").read_text() == "-1"


def test_where_no_group_can_be_made_the_reason_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(NoGroups, match="no control group can be made"),
        group_of(os.getpid(), tmp_path / "missing"),
    ):
        pass
