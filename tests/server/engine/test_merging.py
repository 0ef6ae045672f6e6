"""Outputs of several steps, joined: each session hears the same, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, strategies as st

from saccade.server.engine.leases import Lease
from saccade.server.engine.merging import merged
from saccade.server.engine.outputs import DeviceOutput, ExportedRow, PagesDone

MODELS = ("a", "b")
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 2), st.integers(1, 3)), max_size=6
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(MODELS), ROWS, st.booleans()),
        st.tuples(st.sampled_from(MODELS), st.integers(0, 4)),
    ),
    max_size=12,
)


def outputs_of(steps: Sequence[tuple[Any, ...]]) -> list[DeviceOutput]:
    """Return outputs whose pages are numbered through."""
    found: list[DeviceOutput] = []
    page = 0
    for step in steps:
        if len(step) == 2:
            model, slot = step
            found.append(ExportedRow(Lease(model, slot, 1), []))
            continue
        model, rows, scored = step
        rows = list({row[0]: row for row in rows}.values())  # a slot has one row
        total = sum(row[2] for row in rows)
        slots, counts = (np.array([row[k] for row in rows], np.int32) for k in (0, 2))
        generations = np.array([row[1] for row in rows], np.int64)
        pages = np.arange(page, page + total, dtype=np.int32)
        page += total
        found.append(PagesDone(model, slots, generations, counts, pages, scored))
    return found


def heard(outputs: list[DeviceOutput]) -> dict[tuple[str, int], list[object]]:
    """Return what each slot of each model receives, one after another."""
    by_slot: defaultdict[tuple[str, int], list[object]] = defaultdict(list)
    for output in outputs:
        if isinstance(output, ExportedRow):
            by_slot[output.lease.model, output.lease.slot].append("row")
            continue
        assert isinstance(output, PagesDone)
        start = 0
        rows = zip(output.slots, output.generations, output.counts, strict=True)
        for slot, generation, count in rows:
            for page in output.pages[start : start + count]:
                said = int(generation), int(page), output.scored
                by_slot[output.model, int(slot)].append(said)
            start += count
        assert start == len(output.pages)
    return by_slot


@given(STEPS)
def test_each_session_hears_the_same_in_the_same_order(
    steps: Sequence[tuple[Any, ...]],
) -> None:
    outputs = outputs_of(steps)
    joined = [*merged(outputs)]
    assert heard(joined) == heard(outputs)
    assert len(joined) <= len(outputs)


def test_steps_without_anything_between_become_one() -> None:
    both = [("a", [(0, 1, 2), (3, 1, 1)], True), ("b", [(0, 1, 1)], True)]
    joined = [*merged(outputs_of(5 * both))]
    assert [part.model for part in joined if isinstance(part, PagesDone)] == ["a", "b"]
    first = joined[0]
    assert isinstance(first, PagesDone)
    assert first.counts.tolist() == [10, 5]
