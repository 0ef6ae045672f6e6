"""Which frames take the whole way through the engine, so that it can be traced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

from saccade.server.engine.commands import Submit
from saccade.server.engine.leases import Lease
from saccade.server.telemetry.frames import TracedEngine, TracedLink

LEASE = Lease("model", 3, 1)
PAGES = np.array([7], np.int32)
SCORES = np.ones((1, 2), np.float32)


class Link:
    """A way to an engine that scores whatever it is asked for."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, commands: list[Any]) -> None:
        self.sent += commands

    def score_now(self, *_: Any) -> Any:
        return SCORES


def traced(link: Any, parent: Context | None) -> TracedLink:
    tracer = TracerProvider().get_tracer("test")
    spans = TracedEngine(tracer)
    return TracedLink(link, tracer, lambda _: "session", lambda _: parent, spans)


def test_the_frame_that_is_traced_next_is_not_scored_before_the_engine_has_it() -> None:
    link = Link()
    way = traced(link, Context())
    arena: Any = None
    assert way.score_now(LEASE, arena, PAGES) is None
    slots, generations = np.array([3], np.int32), np.array([1], np.int64)
    way.send([Submit("model", slots, generations, PAGES)])
    assert len(link.sent) == 1
    assert way.score_now(LEASE, arena, PAGES) is SCORES, "one a second is traced"


def test_a_session_that_is_not_recorded_is_scored_as_without_telemetry() -> None:
    arena: Any = None
    assert traced(Link(), None).score_now(LEASE, arena, PAGES) is SCORES
