"""Models are verified, loaded and unloaded beside others that serve."""

from __future__ import annotations

import threading
from typing import Any

import jax.numpy as jnp
import pytest
from jaxlib.version import __version__ as jaxlib_version

from saccade.server.engine.errors import (
    AlreadyServed,
    CanaryMismatch,
    NotReady,
    StillServed,
    UnknownServable,
)
from tests.toy import (
    chunk,
    running,
    toy_advance,
    toy_scores,
    toy_servable,
    wait_until,
)

INF = float("inf")


def test_a_model_that_misses_its_canary_is_refused_by_name() -> None:
    with running(toy_servable("bad", wrong_by=0.5), toy_servable("good")) as (
        engine,
        _,
    ):
        with pytest.raises(CanaryMismatch) as refusal:
            engine.open("bad", INF)
        text = str(refusal.value)
        assert "bucket 1x1" in text
        assert f"cpu, jaxlib {jaxlib_version}" in text
        assert engine.health.failed
        assert not engine.health.ready
        assert "canary" not in engine.health.models["good"].reason
        engine.open("good", INF)


def test_a_single_wrong_bucket_is_found() -> None:
    def faulty(weights: Any, carry: Any, tokens: Any, dt_ms: Any, ticks: Any) -> Any:
        carry, logits = toy_advance(weights, carry, tokens, dt_ms, ticks)
        if tokens.shape[0] == 4:  # a fault that depends on the shape, in one row
            logits = logits.at[3].multiply(jnp.nan)
        return carry, logits

    with running(toy_servable(advance=faulty)) as (engine, _):
        assert "bucket 4x4" in engine.health.reason


def test_a_canary_is_compared_in_every_row_of_a_bucket_larger_than_the_pool() -> None:
    with running(slots=2) as (engine, _):
        assert engine.health.ready


def test_a_model_is_loaded_while_the_sessions_of_another_go_on() -> None:
    compiling, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        compiling.set()
        assert go_on.wait(20)
        return toy_advance(*arguments)

    with running() as (engine, recorder):
        old = engine.open("toy", INF)
        engine.submit(old, chunk([1, 3, 5]))
        loading = threading.Thread(
            target=engine.load, args=(toy_servable("new", slow),)
        )
        loading.start()
        assert compiling.wait(20)
        engine.submit(old, chunk([7]))
        recorder.wait(lambda: len(recorder.scores(old)) == 2)
        with pytest.raises(UnknownServable):
            engine.open("new", INF)
        go_on.set()
        loading.join(20)
        new = engine.open("new", INF)
        engine.submit(new, chunk([4, 4]))
        engine.submit(old, chunk([9, 9]))
        recorder.wait(lambda: len(recorder.scores(new)) == 1)
        recorder.wait(lambda: len(recorder.scores(old)) == 3)
        assert recorder.scores(new) == [4.0]
        assert recorder.scores(old) == toy_scores([1, 3, 5, 7, 9, 9])
        assert engine.health.models["new"].state == "ready"


def test_a_loaded_model_that_misses_its_canary_leaves_the_others_as_they_were() -> None:
    with running() as (engine, recorder):
        lease = engine.open("toy", INF)
        engine.submit(lease, chunk([1, 3, 5]))
        with pytest.raises(CanaryMismatch) as refusal:
            engine.load(toy_servable("bad", wrong_by=0.5))
        text = str(refusal.value)
        assert "model 'bad' refused: bucket 1x1" in text
        assert f"cpu, jaxlib {jaxlib_version}" in text
        assert engine.health.ready
        assert set(engine.health.models) == {"toy"}
        with pytest.raises(UnknownServable):
            engine.open("bad", INF)
        engine.submit(lease, chunk([7]))
        recorder.wait(lambda: len(recorder.scores(lease)) == 2)
        assert recorder.scores(lease) == [2.0, 7.0]
        engine.load(toy_servable("bad"))  # its name is free for a better one
        engine.open("bad", INF)


def test_a_name_that_is_taken_and_an_engine_that_stopped_take_no_model() -> None:
    with running() as (engine, _), pytest.raises(AlreadyServed):
        engine.load(toy_servable("toy"))
    with pytest.raises(NotReady):
        engine.load(toy_servable("late"))


def test_a_model_without_sessions_is_unloaded_and_may_be_loaded_again() -> None:
    with running(toy_servable("a"), toy_servable("b")) as (engine, recorder):
        lease = engine.open("b", INF)
        with pytest.raises(StillServed) as refusal:
            engine.unload("b")
        assert refusal.value.slots_used == 1
        engine.release(lease)
        engine.unload("b")
        wait_until(lambda: set(engine.health.models) == {"a"})
        for refused in (lambda: engine.open("b", INF), lambda: engine.unload("b")):
            with pytest.raises(UnknownServable):
                refused()
        engine.load(toy_servable("b"))
        again = engine.open("b", INF)
        engine.submit(again, chunk([4, 4]))
        recorder.wait(lambda: recorder.scores(again) == [4.0])


def test_two_versions_of_a_name_keep_their_sessions_apart() -> None:
    with running() as (engine, recorder):
        old = engine.open("toy", INF)
        engine.load(toy_servable()._replace(version="2"))
        new = engine.open("toy@2", INF)
        engine.submit(old, chunk([1, 3]))
        engine.submit(new, chunk([5, 7]))
        recorder.wait(lambda: recorder.scores(new) == [6.0])
        recorder.wait(lambda: recorder.scores(old) == [2.0])
