"""The ingest benchmark times the whole host path of the server."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ingest import MODEL_SENSOR, WAYS, Ingest, Way, frame, measure
from saccade.model.tokens import Tokenization


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_takes_frame_after_frame_as_one_stream(way: Way) -> None:
    ingest = Ingest(way, 64)
    chunks = ingest.take([ingest.next_message() for _ in range(3)])
    t_us = np.concatenate([chunk.t_us for chunk in chunks])
    dt_ms = np.concatenate([chunk.dt_ms for chunk in chunks])
    assert len(chunks) == 3
    assert np.allclose(np.diff(t_us), 1e3 * dt_ms[1:])
    assert len(t_us) == 3 * 64 or way.fit == "crop"


def test_the_tokens_are_those_of_the_frames_events() -> None:
    ingest = Ingest(WAYS[0], 64)
    (chunk,) = ingest.take([ingest.next_message()])
    expected = Tokenization("linear", MODEL_SENSOR).tokenize(frame(MODEL_SENSOR, 64))
    assert np.array_equal(chunk.tokens, expected)


def test_a_row_is_measured_for_each_way_and_size() -> None:
    rows = measure(WAYS[:2], (1, 32), frames=2, budget_s=0.0)
    assert [(row.case, row.frame_events) for row in rows] == [
        (way.name, size) for way in WAYS[:2] for size in (1, 32)
    ]
    assert all(row.events_per_second > 0 for row in rows)
