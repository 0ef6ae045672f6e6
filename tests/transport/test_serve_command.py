"""`saccade serve` as a process: a checkpoint in, scores out, a signal ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saccade.model.checkpoint import save
from saccade.model.classifier import Classifier, scan
from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.manifest import Canary, Manifest
from saccade.model.tokens import Tokenization, Tokenizer
from saccade.server.cli import serve
from saccade.server.protocol.messages import GoAway
from tests.otlp_collector import Collector, collecting
from tests.toy import some_events, wait_until
from tests.wire import client_of

TOKENIZATION = Tokenization("linear", Sensor(4, 4))
CONFIG = ModelConfig(
    num_embeddings=TOKENIZATION.num_tokens,
    num_classes=3,
    d_model=8,
    d_ssm=8,
    ssm_block_size=4,
    num_stages=1,
    num_layers_per_stage=1,
    pooling_stride=4,
)
SCAN = jax.jit(scan, static_argnums=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    """A tiny model with random weights."""
    tokens, dt_ms = jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4))
    initialize = jax.jit(partial(Classifier(CONFIG).init, train=False))
    variables = initialize(jax.random.key(0), tokens, dt_ms, jnp.array([4]))
    chunk = Tokenizer(TOKENIZATION, "preceding").feed(some_events(16))
    logits = SCAN(CONFIG, variables, jnp.array(chunk.tokens), jnp.array(chunk.dt_ms))
    canary = Canary(
        tuple(chunk.tokens.tolist()),
        tuple(chunk.dt_ms.tolist()),
        tuple(logits.tolist()),
    )
    manifest = Manifest(
        "tiny", ("a", "b", "c"), CONFIG, TOKENIZATION, "preceding", canary
    )
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save(path, manifest, variables)
    return path, variables


@pytest.fixture
def process(
    checkpoint: tuple[Path, object], tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "saccade", "serve", "--port", "0"]
    command += ["--model", str(checkpoint[0]), "--buckets", "1x1,2x4", "--slots", "3"]
    command += ["--compiled", str(tmp_path), "--log-format", "json"]
    with started(command, tmp_path / "log") as served:
        yield served


@contextmanager
def started(
    command: list[str], log: Path, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server whose log goes to a file; yield it and its address."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **variables},
        ) as running,
    ):
        assert running.stdout is not None
        ready = running.stdout.readline()
        assert ready.startswith("Saccade serves tiny on http://127.0.0.1:"), log
        yield running, ready.split()[4]
        running.kill()


def logged(log: Path) -> list[dict[str, Any]]:
    """Return the objects of a log, each of which is a line."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_checkpoint_is_served_as_the_offline_scan_scores_it(
    process: tuple[subprocess.Popen[str], str],
    checkpoint: tuple[Path, object],
    tmp_path: Path,
) -> None:
    running, base = process
    events = some_events(402, seed=5)
    with client_of(base) as client:
        assert client.open("tiny").tick_events == 4
        for start in range(0, 402, 50):
            client.send(events[start : start + 50])
        closed = client.finish()
    chunk = Tokenizer(TOKENIZATION, "preceding").feed(events[:400])
    offline = SCAN(
        CONFIG, checkpoint[1], jnp.array(chunk.tokens), jnp.array(chunk.dt_ms)
    )
    scale = float(np.abs(offline).max())
    assert np.abs(np.array(closed.logits) - offline).max() <= 1e-4 * scale
    assert closed.pending == 2

    with client_of(base) as client:
        client.open("tiny")
        client.send(events[:4])
        running.send_signal(signal.SIGTERM)
        assert client.hear_until(GoAway).reconnect_after_ms > 0
        assert client.finish().ticks == 1
    assert running.wait(60) == 0
    events_logged = [each["event"] for each in logged(tmp_path / "log")]
    assert events_logged[:2] == ["start", "device"]
    assert events_logged[-3:] == ["ready", "stopping", "stopped"]


@pytest.fixture
def several(
    checkpoint: tuple[Path, object], tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], str, Collector]]:
    """A server of several processes that exports what it does, and the collector."""
    command = [sys.executable, "-m", "saccade", "serve", "--port", "0"]
    command += ["--model", str(checkpoint[0]), "--buckets", "1x1,2x4", "--slots", "3"]
    command += ["--compiled", str(tmp_path), "--log-format", "json", "--workers", "1"]
    command += ["--store", "memory", "--otel"]
    with collecting() as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "100",
        }
        with started(command, tmp_path / "log", variables) as (running, base):
            yield running, base, collector


@pytest.mark.slow
def test_several_processes_log_and_trace_as_one_server(
    several: tuple[subprocess.Popen[str], str, Collector], tmp_path: Path
) -> None:
    (running, base, collector), log = several, tmp_path / "log"

    def play() -> str:
        with client_of(base) as client:
            name = client.open("tiny").session
            client.send(some_events(8))
            client.finish()
        return name

    def sessions() -> list[dict[str, Any]]:
        return [each for each in logged(log) if each["event"] == "session_left"]

    name = play()
    spans = ("session", "frame", "engine", "device")  # from two processes
    wait_until(lambda: all(map(collector.named, spans)))
    (session,) = collector.named("session")
    (frame,), (engine,) = collector.named("frame"), collector.named("engine")
    (device,) = collector.named("device")
    assert session.facts["saccade.session"] == name
    assert [frame.parent, engine.parent, device.parent] == [
        session.id,
        frame.id,
        engine.id,
    ]
    made_by = [each.resource["saccade.process"] for each in (frame, engine)]
    assert made_by == ["worker 0", "engine"]
    wait_until(lambda: "engine saccade_batches" in collector.metrics)
    assert sessions() == []

    running.send_signal(signal.SIGUSR1)
    wait_until(lambda: logged(log)[-1]["event"] == "log_level")
    while not sessions():  # the worker follows the supervisor
        play()
    assert sessions()[0]["process"] == "worker 0"
    assert len(sessions()[0]["trace_id"]) == 32
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0
    lines = logged(log)
    assert {each["process"] for each in lines} == {"supervisor", "worker 0", "engine"}
    assert len({each["replica"] for each in lines}) == 1
    assert lines[-1]["event"] == "stopped"


def test_a_missing_checkpoint_and_a_bad_option_say_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(["--port", "0", "--model", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
    assert serve(["--port", "99999"]) == 2
    assert "port" in capsys.readouterr().err
    assert serve(["--host", "0.0.0.0"]) == 2
    assert "--insecure" in capsys.readouterr().err
