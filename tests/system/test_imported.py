"""Every kind of model is served exactly: the authors' own, and other variants.

One server process, real sockets; the truth is the reference's stored logits, or `scan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from saccade.clients import http
from saccade.clients.commands.server_process import ServerProcess
from saccade.model import checkpoint
from saccade.model.classifier import Classifier
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.model.manifest import Canary, Manifest
from saccade.model.tokens import Tokenization, Tokenizer
from saccade.model.upstream.cli import import_upstream
from saccade.server.protocol.messages import Flush, Flushed, Open, Report
from tests.model.variants import random_variables, small
from tests.system.offline import deviation
from tests.wire import Client, client_of

GOLDEN = Path(
    os.environ.get(
        "SACCADE_GOLDEN_DIR", Path(__file__).parents[2].parent / "shared" / "golden"
    )
)

pytestmark = pytest.mark.slow  # compiling eight models takes a minute

LAYOUTS = sorted(GOLDEN.glob("upstream_checkpoints/*"))
LIMIT = 3e-5
LONGEST = 333
COCHLEA = Sensor(700, 1, polarities=1)
PIXELS = Sensor(7, 5)

VARIANTS = {
    "every-event": (
        Tokenization("linear", PIXELS),
        "preceding",
        small(num_embeddings=70, num_stages=1, pooling_stride=1),
    ),
    "product": (
        Tokenization("product", PIXELS),
        "following",
        small(
            num_embeddings=70,
            num_stages=2,
            pooling_stride=4,
            discretization="zoh",
            pooling_mode="avgpool",
            classification_mode="pool",
            conj_sym=True,
        ),
    ),
    "cochlea": (
        Tokenization("linear", Sensor(50, 1, polarities=1)),
        "following",
        small(
            num_stages=3,
            pooling_stride=2,
            discretization="dirac",
            pooling_mode="last",
            classification_mode="last",
            batchnorm=True,
            prenorm=False,
        ),
    ),
    "every-event-following": (
        Tokenization("linear", PIXELS),
        "following",
        small(num_embeddings=70, num_stages=2, pooling_stride=1, batchnorm=True),
    ),
}


@cache
def compiled(config: ModelConfig) -> Any:
    return jax.jit(partial(Classifier(config).apply, train=False))


def scanned(config: ModelConfig, variables: Any, tokens: Any, dt_ms: Any) -> Any:
    """Score a whole sequence; padded, so that every length runs what is compiled."""
    words, gaps = np.zeros((1, LONGEST), np.int32), np.zeros((1, LONGEST), np.float32)
    words[0, : len(tokens)], gaps[0, : len(tokens)] = tokens, dt_ms
    logits = compiled(config)(variables, words, gaps, np.asarray([len(tokens)]))
    return np.asarray(logits[0], np.float64)


def save(folder: Path, name: str) -> Path:
    """Write a checkpoint of one of VARIANTS, as its trainer would."""
    tokenization, timestep, config = VARIANTS[name]
    tokens = np.arange(2 * config.tick_events, dtype=np.int32)
    tokens %= tokenization.num_tokens
    dt_ms = np.full(len(tokens), 0.5, np.float32)
    variables = random_variables(config)
    logits = scanned(config, variables, tokens, dt_ms)
    manifest = Manifest(
        name=name,
        labels=tuple("abcde"),
        config=config,
        tokenization=tokenization,
        timestep=timestep,  # type: ignore[arg-type]
        canary=Canary(
            tuple(tokens.tolist()), tuple(dt_ms.tolist()), tuple(logits.tolist())
        ),
    )
    checkpoint.save(folder / name, manifest, variables)
    return folder / name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of every variant and every imported checkpoint."""
    folder = tmp_path_factory.mktemp("models")
    models = [save(folder, name) for name in VARIANTS]
    for layout in LAYOUTS:
        models.append(folder / layout.name)
        words = [str(layout), "--config", "shd/tiny", "--out", str(models[-1])]
        assert import_upstream(words) == 0
    options = [word for path in models for word in ("--model", str(path))]
    with ServerProcess([*options, "--buckets", "1x2,2x1"]) as process:
        process.wait_until_ready(lambda text: None)
        yield process


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_an_imported_model_gives_the_reference_s_logits_over_the_wire(
    server: ServerProcess, layout: Path
) -> None:
    """An event is paired with the gap after it: one more event ends the last gap."""
    with np.load(layout / "logits.npz") as arrays:
        truth = arrays["input/a/logits"][0].astype(np.float64)
        channels, gaps_ms = (
            arrays[f"input/a/{name}"][0] for name in ("tokens", "timesteps_ms")
        )
    events = np.zeros(len(channels) + 1, EVENT_DTYPE)
    events["t"][1:] = np.cumsum(np.rint(1000 * gaps_ms.astype(np.float64)))
    events["x"][:-1] = channels
    with client_of(server.url) as client:
        client.open(layout.name, report=Report("flush"))
        for start in range(0, len(events), 100):
            client.send(events[start : start + 100])
        closed = client.finish()
    assert (closed.events, closed.pending) == (len(channels), 1)
    assert deviation(closed.logits, truth) <= LIMIT
    (rest,) = http.classify(server.url, layout.name, [events], sensor=COCHLEA)
    assert (rest.events, rest.pending) == (len(channels), 1)
    assert deviation(rest.logits, truth) <= LIMIT


def random_events(sensor: Sensor, length: int) -> Events:
    rng = np.random.default_rng(length)
    events = np.empty(length, EVENT_DTYPE)
    events["t"] = 5_000_000_000 + np.cumsum(rng.integers(0, 4000, length))
    for field, limit in zip(
        ("x", "y", "p"), (sensor.width, sensor.height, sensor.polarities), strict=True
    ):
        events[field] = rng.integers(0, limit, length)
    return events


def sends(client: Client, events: Events, frame: int) -> None:
    for start in range(0, len(events), frame):
        client.send(events[start : start + frame])


@pytest.mark.parametrize("length", [0, 1, 65, LONGEST])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_streams_as_rest_and_the_offline_scan_score_it(
    server: ServerProcess, name: str, length: int
) -> None:
    tokenization, timestep, config = VARIANTS[name]
    events = random_events(tokenization.sensor, length)
    seen = Tokenizer(tokenization, timestep).feed(events)  # type: ignore[arg-type]
    ticks, rest_events = divmod(len(seen.tokens), config.tick_events)
    with client_of(server.url) as client:
        client.open(name, report=Report("flush"))
        sends(client, events, 50)
        closed = client.finish()
    (rest,) = http.classify(server.url, name, [events], sensor=tokenization.sensor)
    held_back = length - len(seen.tokens)
    assert held_back == (timestep == "following" and length > 0)
    assert (closed.ticks, closed.pending) == (ticks, rest_events + held_back)
    assert rest.pending == closed.pending
    assert closed.events + closed.pending == length
    if ticks == 0:
        assert closed.logits is None
        return
    truth = scanned(config, random_variables(config), seen.tokens, seen.dt_ms)
    assert closed.t_us == seen.t_us[ticks * config.tick_events - 1]
    assert deviation(closed.logits, truth) <= LIMIT
    assert deviation(rest.logits, truth) <= LIMIT


@pytest.mark.parametrize("name", VARIANTS)
def test_a_flush_tells_what_waits_and_changes_no_score(
    server: ServerProcess, name: str
) -> None:
    """Where the gap after an event matters, the newest waits through any flush."""
    tokenization, timestep, config = VARIANTS[name]
    events = random_events(tokenization.sensor, 40)
    lag = int(timestep == "following")
    with client_of(server.url) as client, client_of(server.url) as quiet:
        for each in (client, quiet):
            each.open(name, report=Report("flush"))
        for n in range(len(events)):
            client.send(events[n : n + 1])
            client.say(Flush(n))
            flushed = client.hear_until(Flushed)
            scored = (n + 1 - lag) // config.tick_events * config.tick_events
            assert (flushed.id, flushed.seq, flushed.events) == (n, n + 1, scored)
            assert flushed.pending == n + 1 - scored
        sends(quiet, events, 40)
        flushed_often, flushed_never = client.finish(), quiet.finish()
    assert flushed_often.events == flushed_never.events
    assert deviation(flushed_often.logits, flushed_never.logits or []) <= LIMIT


def test_a_model_of_stride_one_answers_every_event(server: ServerProcess) -> None:
    with client_of(server.url) as client:
        client.say(Open("every-event"))
        assert client.hear().tick_events == 1
        sends(client, random_events(PIXELS, 30), 7)
        assert client.finish().ticks == len(client.scores) == 30
