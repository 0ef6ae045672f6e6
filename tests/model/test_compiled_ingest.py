"""Compiled ingest gives the tokens, times and errors that NumPy's gives."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from saccade.model.events.encodings.packed import RECORD_DTYPE
from saccade.model.events.errors import EventsError, MalformedPayload
from saccade.model.events.fit import POLICIES
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE
from saccade.model.ingest import Ingest, IngestConfig, IngestState, NumpyIngest
from saccade.model.tokens import SCHEMES, Tokenization

pytest.importorskip("numba", reason="without numba, NumPy takes the frames")

from saccade.model.compiled_ingest import CompiledIngest

sides = st.integers(1, 9)
sensors = st.builds(Sensor, sides, sides, st.integers(1, 2))
tokenizations = st.builds(
    Tokenization, st.sampled_from([*SCHEMES]), sensors, st.integers(1, 3)
)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def configs(draw: Any) -> IngestConfig:
    tokenization = draw(tokenizations)
    target = tokenization.sensor
    policy = draw(st.sampled_from([*POLICIES]))
    width, height = (target.width, target.height)
    if policy != "reject":
        width, height = draw(sides), draw(sides)
    source = Sensor(width, height, draw(st.integers(1, target.polarities)))
    bits = draw(st.none() | st.sampled_from([16, 20, 48]))
    invalid: Any = draw(st.sampled_from(["reject", "skip"]))
    return IngestConfig(source, tokenization, policy, bits, invalid)


def records(
    config: IngestConfig, rng: np.random.Generator, count: int, faults: int
) -> Any:
    """Events that are right but for so many faults in random places."""
    source = config.source
    t = np.cumsum(rng.integers(0, 2000, count))
    x, y = (rng.integers(0, side, count) for side in (source.width, source.height))
    p = rng.integers(0, source.polarities, count)
    wrong = {
        "x": (x, [source.width, 65535]),
        "y": (y, [source.height, 32767]),
        "p": (p, [1]),
        "t": (t, [0, 2**20 - 1, 2**32 - 1]),
    }
    for _ in range(faults if count else 0):
        column, values = wrong[rng.choice([*wrong])]
        column[rng.integers(count)] = rng.choice(values)
    made = np.empty(count, RECORD_DTYPE)
    made["offset_us"], made["pixel"] = t, p << 31 | y << 16 | x
    return made


def outcome(ingest: Ingest, take: str, *frame: Any) -> Any:
    try:
        tokens, t_us = getattr(ingest, take)(*frame)
    except EventsError as error:
        return type(error), vars(error), ingest.state
    assert (tokens.dtype, t_us.dtype) == (np.int32, np.int64)
    return tokens.tolist(), t_us.tolist(), ingest.state


@settings(max_examples=150)
@given(
    configs(),
    seeds,
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 1, 2])), max_size=5),
)
def test_packed_records_have_one_outcome_whatever_is_wrong_with_them(
    config: IngestConfig, seed: int, frames: list[tuple[int, int]]
) -> None:
    rng, base_us = np.random.default_rng(seed), 0
    compiled, reference = CompiledIngest(config), NumpyIngest(config)
    for count, faults in frames:
        base_us = int(max(0, base_us + rng.integers(-10, 2**18)))
        frame = records(config, rng, count, faults), base_us
        before = compiled.state
        found = outcome(compiled, "take_records", *frame)
        assert found == outcome(reference, "take_records", *frame)
        if isinstance(found[0], type):
            assert compiled.state == before


@settings(max_examples=150)
@given(configs(), seeds, st.lists(st.integers(0, 40), max_size=4))
def test_decoded_events_have_one_outcome_whatever_is_wrong_with_them(
    config: IngestConfig, seed: int, frames: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    compiled, reference = CompiledIngest(config), NumpyIngest(config)
    for count in frames:
        events = np.empty(count, EVENT_DTYPE)
        events["t"] = np.cumsum(rng.integers(-1, 3000, count))
        for field, limit in (
            ("x", config.source.width),
            ("y", config.source.height),
            ("p", config.source.polarities),
        ):
            events[field] = rng.integers(0, limit, count)
            if count and rng.random() < 0.1:
                most = np.iinfo(EVENT_DTYPE[field]).max
                events[field][rng.integers(count)] = rng.choice([limit, most])
        found = outcome(compiled, "take_events", events.copy())
        assert found == outcome(reference, "take_events", events)


@given(configs(), seeds, st.integers(0, 40), st.lists(st.integers(0, 40), max_size=5))
def test_a_stream_gives_the_same_however_it_is_cut(
    config: IngestConfig, seed: int, count: int, places: list[int]
) -> None:
    given = records(config, np.random.default_rng(seed), count, 0)
    whole = CompiledIngest(config).take_records(given, 7)
    ingest = CompiledIngest(config)
    borders = [0, *sorted(min(place, count) for place in places), count]
    parts = [ingest.take_records(given[a:b], 7) for a, b in pairwise(borders)]
    for column, cut in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.concatenate(cut).tolist() == column.tolist()


@pytest.mark.parametrize("kind", [CompiledIngest, NumpyIngest])
def test_a_base_that_overflows_is_malformed(kind: Any) -> None:
    tokenization = Tokenization("linear", Sensor(4, 4))
    ingest = kind(IngestConfig(tokenization.sensor, tokenization))
    with pytest.raises(MalformedPayload, match="overflows"):
        ingest.take_records(np.zeros(1, RECORD_DTYPE), 2**63 - 2**32 + 1)
    assert ingest.state == IngestState()


def test_events_beyond_what_a_packed_record_holds_are_taken() -> None:
    tall = Tokenization("linear", Sensor(1, 40_000))
    ingest = CompiledIngest(IngestConfig(tall.sensor, tall))
    events = np.array([(5, 0, 39_999, 1)], EVENT_DTYPE)
    tokens, t_us = ingest.take_events(events)
    assert (tokens.tolist(), t_us.tolist()) == ([79_999], [5])
    assert ingest.state.at.last_us == 5


USE = """
from saccade.model import compiled_ingest
take, _ = compiled_ingest.prepare()
print(sum(take.stats.cache_hits.values()))
"""


def in_a_process(program: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.slow
def test_machine_code_is_kept_for_the_next_process_unless_it_is_damaged(
    tmp_path: Path,
) -> None:
    folder = str(tmp_path)
    assert in_a_process(USE, NUMBA_CACHE_DIR=folder) == "0"
    assert in_a_process(USE, NUMBA_CACHE_DIR=folder) == "1"
    for path in tmp_path.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert in_a_process(USE, NUMBA_CACHE_DIR=folder) == "0"
    assert not list(tmp_path.rglob("*.nb?")), "the next process keeps it anew"


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    used = in_a_process(USE, NUMBA_CACHE_DIR=str(blocked / "folder"))
    assert used in {"0", "1"}  # numba takes another folder, where there is one
