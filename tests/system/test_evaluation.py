"""What `saccade evaluate` measures is what a server answers, sample for sample."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from saccade.clients.connection import connect
from saccade.model.events.types import Events
from saccade.model.training.config import resolve
from saccade.model.training.dataset import Samples
from saccade.model.training.evaluate_command import assess, task_of
from saccade.model.training.input_pipeline import bucket
from saccade.model.training.settings import EvaluationSettings
from saccade.model.training.typed import build
from tests.system.offline import TOLERANCE, Scores, deviation, released

AT_ONCE = 4


def evaluation(name: str, *words: str) -> EvaluationSettings:
    asked = [f"checkpoint={name}", f"task={name}", "split=test", *words]
    return build(EvaluationSettings, resolve("evaluate", asked))


def as_evaluated(samples: Samples, tick_events: int) -> list[Events]:
    """Return recordings in the order in which an evaluation scores them."""
    sizes = [bucket(events.size, tick_events) for events in samples.events]
    order = np.argsort(sizes, kind="stable")
    return [samples.events[place] for place in order.tolist()]


async def served(url: str, name: str, recordings: list[Events]) -> list[Scores]:
    """Stream each recording in a session of its own, a few at once."""
    seats = asyncio.Semaphore(AT_ONCE)

    async def final(events: Events) -> Scores:
        async with seats, connect(url, model=name) as socket:
            await socket.send(events)
            closed = await socket.close()
        return np.asarray(closed.logits)

    return await asyncio.gather(*map(final, recordings))


@pytest.fixture(params=["nmnist", "motions"])
def asked(request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    if request.param == "motions":
        return "motions", ["task.test_scenes=9", "system.workers=0"]
    digits: Path = request.getfixturevalue("shared") / "nmnist-small"
    return "nmnist", [f"data_dir={digits}"]


@pytest.mark.slow
async def test_a_server_answers_what_an_evaluation_measures(server, asked):
    name, words = asked
    settings = evaluation(name, *words)
    measured = assess(settings).predictions
    recordings = as_evaluated(
        task_of(settings).load("test"), released(name).manifest.config.tick_events
    )
    answers = await served(server.url, name, recordings)
    assert len(answers) == len(measured.logits)
    for answer, logits in zip(answers, measured.logits, strict=True):
        assert deviation(answer, logits) <= TOLERANCE
