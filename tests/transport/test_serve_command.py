"""`saccade serve` as a process: a checkpoint in, scores out, a signal ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

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
from tests.toy import some_events
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
    command += ["--compiled", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as running:
        assert running.stdout is not None
        ready = running.stdout.readline()
        assert ready.startswith("Saccade serves tiny on http://127.0.0.1:")
        yield running, ready.split()[4]
        running.kill()


def test_a_checkpoint_is_served_as_the_offline_scan_scores_it(
    process: tuple[subprocess.Popen[str], str], checkpoint: tuple[Path, object]
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


def test_a_missing_checkpoint_and_a_bad_option_say_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(["--port", "0", "--model", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
    assert serve(["--port", "99999"]) == 2
    assert "port" in capsys.readouterr().err
    assert serve(["--host", "0.0.0.0"]) == 2
    assert "--insecure" in capsys.readouterr().err
