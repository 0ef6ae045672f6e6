"""The ingest benchmark times all that a server does before a session has tokens."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ingest import (
    MODEL_SENSOR,
    READERS,
    TOKENIZATION,
    WAYS,
    Ingest,
    Way,
    frame,
    measure,
)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_takes_frame_after_frame_as_one_stream(way: Way, reader: str) -> None:
    ingest = Ingest(way, reader, 64)
    chunks = [ingest.take(ingest.next_message()) for _ in range(3)]
    t_us = np.concatenate([chunk.t_us for chunk in chunks])
    assert (np.diff(t_us) >= 0).all()
    assert len(t_us) == 3 * 64 or way.fit == "crop"


def test_the_tokens_are_those_of_the_frames_events() -> None:
    ingest = Ingest(WAYS[0], "NumPy", 64)
    chunk = ingest.take(ingest.next_message())
    expected = TOKENIZATION.tokenize(frame(MODEL_SENSOR, 64))
    assert np.array_equal(chunk.tokens, expected)


def test_a_row_is_measured_for_each_way_size_and_reader() -> None:
    rows = measure(WAYS[:2], (1, 32), frames=2, budget_s=0.0)
    assert [(row.case, row.frame_events, row.reader) for row in rows] == [
        (way.name, size, reader)
        for way in WAYS[:2]
        for size in (1, 32)
        for reader in READERS
    ]
    assert all(row.events_per_second > 0 for row in rows)
