"""Outputs of several steps as if the engine had scored them in one.

A front end that is slower than its engine finds more than one step's outputs when it
comes to them. What it does costs by the session, not by the tick, so it takes all that
are there at once: the more is waiting, the less each tick costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from saccade.server.engine.outputs import DeviceOutput, PagesDone


def merged(outputs: Iterable[DeviceOutput]) -> Iterator[DeviceOutput]:
    """Join the scored pages of each model that no other output comes between.

    Each session's outputs stay in their order.
    """
    runs: dict[str, list[PagesDone]] = {}
    for output in outputs:
        if isinstance(output, PagesDone) and output.scored:
            runs.setdefault(output.model, []).append(output)
            continue
        yield from map(_joined, runs.values())
        runs.clear()
        yield output
    yield from map(_joined, runs.values())


def _joined(parts: list[PagesDone]) -> PagesDone:
    """Return batches of one model as one batch, in which each session has one row."""
    if len(parts) == 1:
        return parts[0]
    slots = np.concatenate([part.slots for part in parts])
    generations = np.concatenate([part.generations for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    pages = np.concatenate([part.pages for part in parts])
    starts = np.cumsum(counts) - counts
    order = np.argsort(slots, kind="stable")
    slots, generations, counts = slots[order], generations[order], counts[order]
    moved = starts[order] - (np.cumsum(counts) - counts)
    places = np.repeat(moved, counts) + np.arange(len(pages))
    first = np.ones(len(slots), np.bool_)
    first[1:] = (slots[1:] != slots[:-1]) | (generations[1:] != generations[:-1])
    rows = np.flatnonzero(first)
    sums = np.add.reduceat(counts, rows).astype(np.int32)
    named = slots[rows], generations[rows], sums
    return PagesDone(parts[0].model, *named, pages[places], scored=True)
