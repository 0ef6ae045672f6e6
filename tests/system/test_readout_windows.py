"""What a readout window is for: scenes change before the released `motions` model."""

from __future__ import annotations

import httpx
import msgpack
import numpy as np

from saccade.model.events.encodings.packed import pack
from saccade.model.events.simulator.camera import simulate
from saccade.model.events.simulator.scenes import MOTIONS
from saccade.model.events.types import Events
from saccade.server.protocol.messages import ReadoutWindow, Report, Result
from tests.system.offline import TOLERANCE, deviation, scanned
from tests.wire import client_of

HALF_LIFE_MS = 200
SCENE_US = 3 * HALF_LIFE_MS * 1000


def film(*motions: str) -> Events:
    """Return scenes one after another, each for three half-lives."""
    scenes = []
    for number, motion in enumerate(motions):
        scene = simulate(motion, seed=11, duration_us=SCENE_US)
        scene["t"] += number * SCENE_US
        scenes.append(scene[scene["t"] < (number + 1) * SCENE_US])
    return np.concatenate(scenes)


def streamed(url: str, events: Events, window: ReadoutWindow) -> list[Result]:
    with client_of(url) as client:
        client.open("motions", readout=window, report=Report("ms", 20))
        for start in range(0, len(events), 8192):
            client.send(events[start : start + 8192])
        closed = client.finish()
        results: list[Result] = client.of(Result)
    last = Result(0, closed.ticks, closed.events, *_scores(closed))
    return [*results, last]


def _scores(closed: object) -> list[object]:
    return [getattr(closed, name) for name in ("t_us", "logits", "label", "confidence")]


def labels_at_the_ends(results: list[Result], scenes: int) -> list[str]:
    """Return the newest label just before each scene's end."""
    ends = [(number + 1) * SCENE_US for number in range(scenes)]
    return [[r.label for r in results if r.t_us < end][-1] for end in ends]


def test_with_a_half_life_the_label_follows_the_scene_within_three(server):
    window = ReadoutWindow("half_life", float(HALF_LIFE_MS))
    results = streamed(server.url, film(*MOTIONS), window)
    assert labels_at_the_ends(results, len(MOTIONS)) == list(MOTIONS)


def test_a_request_may_ask_for_a_half_life_too(server):
    events = film("left", "right")
    window = ReadoutWindow("half_life", float(HALF_LIFE_MS))
    last = streamed(server.url, events, window)[-1]
    body = {"model": "motions", "half_life_ms": HALF_LIFE_MS}
    body["recordings"] = [{"data": pack(events, 0)}]
    answer = httpx.post(
        f"{server.url}/v1/classify",
        content=msgpack.packb(body),
        headers={"Content-Type": "application/msgpack"},
        timeout=300,
    )
    assert answer.json()["results"][0]["logits"] == last.logits


def test_with_the_session_s_window_all_scenes_count_as_in_training(server):
    events = film("left", "right")
    last = streamed(server.url, events, ReadoutWindow())[-1]
    assert last.events == len(events) // 64 * 64
    assert deviation(last.logits, scanned("motions", events)) <= TOLERANCE
