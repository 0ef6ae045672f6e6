"""Evaluations: whole and streamed scores, figures by class, decision times."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from saccade.model.classifier import initialize
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.tokens import Tokenization
from saccade.model.training import evaluation
from saccade.model.training.dataset import Samples
from saccade.model.training.evaluation import (
    Evaluation,
    Predictions,
    ScoreTrajectory,
    decision_ms,
    predict_streams,
    predict_whole,
)
from saccade.model.training.experiment import encoder
from saccade.model.training.figures import confidence_over_time, write_figures
from saccade.model.training.input_pipeline import Batch, evaluation_batches
from tests.model.training.fixtures import make_events

CONFIG = ModelConfig(
    num_embeddings=2 * 34 * 34,
    num_classes=3,
    d_model=8,
    d_ssm=8,
    ssm_block_size=4,
    num_stages=2,
    num_layers_per_stage=1,
    pooling_stride=4,
)
SIZES = [3, 16, 47, 64, 300, 900, 901]


def batches() -> list[Batch]:
    events = [make_events(size, seed) for seed, size in enumerate(SIZES)]
    samples = Samples(events, np.arange(len(SIZES), dtype=np.int64) % 3)
    encode = encoder(Tokenization("linear", Sensor(34, 34)), "preceding")
    return list(evaluation_batches(samples, 3, 1024, CONFIG.tick_events, encode))


@pytest.fixture(scope="module")
def both() -> tuple[Predictions, Predictions]:
    variables = initialize(CONFIG, jax.random.key(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "CHUNK_TICKS", 5)
        streams = predict_streams(CONFIG, variables, batches())
    return predict_whole(CONFIG, variables, batches()), streams


def made(
    labels: list[int], predicted: list[int], trajectories: list[ScoreTrajectory]
) -> Evaluation:
    logits = 4.0 * np.eye(3)[predicted]
    found = Predictions(np.array(labels), logits, trajectories, 100, 5.0)
    return Evaluation("test", "streaming", ("left", "right", "none"), found, "a1b2")


def test_a_recording_shorter_than_a_tick_is_no_prediction_and_counts_as_wrong(
    both,
) -> None:
    for found in both:
        lengths = np.concatenate([b.lengths[b.weights > 0] for b in batches()])
        assert found.unanswered.tolist() == np.flatnonzero(lengths < 16).tolist()
        assert len(found.unanswered) == 1
        assert not found.logits[found.unanswered].any()
    result = made([0, 0, 1, 1], [0, 0, 1, 0], [])
    result.predictions.unanswered = np.array([1])
    result.predictions.logits[1] = 0.0
    assert result.score.accuracy == 2 / 4
    assert "50.0% of 4 samples" in str(result.score)
    assert "; 1 too short for an answer)" in str(result.score)
    assert result.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert [row.samples for row in result.classes] == [2, 2, 0]
    assert [row.recall for row in result.classes] == [0.5, 0.5, None]
    assert result.to_dict()["unanswered"] == 1


def test_streaming_scores_every_sample_as_batches_do(both) -> None:
    whole, streams = both
    assert whole.labels.tolist() == streams.labels.tolist()
    assert whole.events == streams.events == sum(SIZES)
    assert streams.logits == pytest.approx(whole.logits, rel=1e-5, abs=1e-6)


def test_a_course_has_a_place_for_each_tick_and_ends_in_the_final_score(both) -> None:
    _, streams = both
    ticks = sorted(trajectory.t_ms.size for trajectory in streams.trajectories)
    assert ticks == sorted(size // CONFIG.tick_events for size in SIZES)
    for trajectory, logits in zip(streams.trajectories, streams.logits, strict=True):
        assert (np.diff(trajectory.t_ms) >= 0).all()
        if trajectory.t_ms.size:
            assert trajectory.logits[-1].tolist() == logits.tolist()


def test_classes_have_recall_and_precision() -> None:
    result = made([0, 0, 0, 1], [0, 0, 1, 1], [])
    left, right, none = result.classes
    assert (left.samples, left.recall, left.precision) == (3, 2 / 3, 1.0)
    assert (right.samples, right.recall, right.precision) == (1, 1.0, 0.5)
    assert (none.samples, none.recall, none.precision) == (0, None, None)
    assert result.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert result.score.accuracy == 0.75
    assert result.score.loss == pytest.approx(np.log(np.exp(4) + 2) - 3.0)


@pytest.mark.parametrize(
    ("answers", "when"), [([1, 1, 1], 2.0), ([0, 1, 1], 5.0), ([1, 0, 1], 9.0)]
)
def test_a_decision_is_made_when_the_top_class_stays(answers, when) -> None:
    trajectory = ScoreTrajectory(np.array([2.0, 5.0, 9.0]), np.eye(3)[answers])
    assert decision_ms(trajectory) == when


def test_confidence_begins_at_chance_and_ends_with_the_final_score() -> None:
    trajectory = ScoreTrajectory(
        np.array([10.0, 20.0]), np.log([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
    )
    t_ms, known = confidence_over_time(made([1], [1], [trajectory]))
    assert known[0, t_ms < 10.0] == pytest.approx(1 / 3)
    assert known[0, (t_ms >= 10.0) & (t_ms < 20.0)] == pytest.approx(0.5)
    assert known[0, -1] == pytest.approx(0.8)


def test_figures_are_images_beside_the_numbers(tmp_path: Path) -> None:
    trajectories = [ScoreTrajectory(np.array([1.0, 2.0]), np.eye(3)[[0, 1]])] * 2
    write_figures(tmp_path / "figures", made([0, 1], [0, 1], trajectories))
    for name in ("confusion.png", "confidence.png"):
        assert (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert found["accuracy"] == 1.0
    assert found["time_to_decision_ms"] == {"p50": 2.0, "p90": 2.0}


def test_the_text_has_a_line_a_class_and_the_time_to_decision() -> None:
    trajectories = [ScoreTrajectory(np.array([1.0, 2.0]), np.eye(3)[[0, 1]])]
    text = str(made([0], [1], trajectories))
    assert "0.0% of 1 samples" in text
    assert "  left         1        0.0%" in text
    assert "final after 2.0 ms" in text
    assert "5 events/s (streaming)" in text
