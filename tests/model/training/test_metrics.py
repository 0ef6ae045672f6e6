from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.model.training.metrics import score, wilson
from saccade.model.training.train_state import Tally


def tally(loss: float, correct: int, rows: int) -> Tally:
    return Tally(
        loss=jnp.asarray(loss),
        correct=jnp.asarray(float(correct)),
        rows=jnp.asarray(float(rows)),
        events=jnp.asarray(0),
    )


def test_ragged_batches_weigh_as_many_samples_as_they_hold() -> None:
    result = score([tally(9.0, 9, 9), tally(4.0, 0, 1)])
    assert result.accuracy == pytest.approx(0.9)
    assert result.samples == 10
    assert result.loss == pytest.approx(1.3)


def test_the_text_has_the_sample_count_and_the_interval() -> None:
    text = str(score([tally(10.0, 96, 100)]))
    assert "96.0% of 100 samples" in text
    assert "90.2% to 98.4%" in text


@given(st.integers(1, 10_000), st.data())
def test_wilsons_interval_holds_the_share_and_stays_within_bounds(
    samples: int, data: st.DataObject
) -> None:
    correct = data.draw(st.integers(0, samples))
    low, high = wilson(correct, samples)
    assert 0.0 <= low <= correct / samples + 1e-12
    assert correct / samples - 1e-12 <= high <= 1.0


def test_wilsons_interval_solves_its_equation() -> None:
    for bound in wilson(92, 100):
        z = abs(0.92 - bound) / np.sqrt(bound * (1 - bound) / 100)
        assert z == pytest.approx(1.96, abs=1e-3)


def test_without_samples_the_interval_is_everything() -> None:
    assert score([]).ci95 == (0.0, 1.0)
