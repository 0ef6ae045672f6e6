from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from saccade.clients.filters import BackgroundActivity, HotPixels, filtered
from saccade.clients.sources import open_source
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE

SENSOR = Sensor(6, 5)
SUPPORT_US = 50


def events_of(rows):
    return np.array([(t, x, y, 1) for t, x, y in rows], EVENT_DTYPE)


def supported(rows, support_us):
    """Decide event by event, as the filter's description says."""
    newest = {}
    for t, x, y in rows:
        around = [
            newest.get((x + dx, y + dy), -(10**9))
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            if dx or dy
        ]
        yield max(around) > t - support_us
        newest[x, y] = t


streams = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 5), st.integers(0, 4)), max_size=80
).map(sorted)


@settings(max_examples=40)
@given(rows=streams, cuts=st.lists(st.integers(0, 80), max_size=4))
def test_an_event_passes_if_a_neighbour_had_one_before_however_it_is_cut(rows, cuts):
    chosen = BackgroundActivity(SENSOR, SUPPORT_US)
    pieces = np.split(events_of(rows), sorted(c for c in cuts if c <= len(rows)))
    passes = np.concatenate([chosen.passing(piece) for piece in pieces])
    assert passes.tolist() == list(supported(rows, SUPPORT_US))


@settings(max_examples=40)
@given(rows=streams)
def test_the_filter_is_that_of_dv_processing(rows):
    from datetime import timedelta

    dv = pytest.importorskip("dv_processing")
    store = dv.EventStore()
    rows = [(1_000 + t, x, y) for t, x, y in rows]  # its pixels begin with one at 0
    for t, x, y in rows:
        store.push_back(t, x, y, True)
    theirs = dv.noise.BackgroundActivityNoiseFilter(
        (SENSOR.width, SENSOR.height), timedelta(microseconds=SUPPORT_US)
    )
    theirs.accept(store)
    kept = theirs.generateEvents().numpy()
    passes = BackgroundActivity(SENSOR, SUPPORT_US).passing(events_of(rows))
    ours = events_of(rows)[passes]
    assert [tuple(e)[:3] for e in kept] == [tuple(e)[:3] for e in ours]


def test_noise_is_dropped_and_motion_stays():
    noise = open_source("sim:noise?rate=3000&seconds=2")
    motion = open_source("sim:motions?seconds=2")
    shares = []
    for source in (noise, motion):
        chunks = list(source.chunks)
        findings = Findings()
        kept = sum(map(len, filtered(iter(chunks), "noise", source.sensor, findings)))
        sent = sum(map(len, chunks))
        assert findings.skipped["events (noise)"] == sent - kept
        shares.append(kept / sent)
    assert shares[0] < 0.05
    assert shares[1] > 0.8


def test_a_pixel_that_fires_steadily_is_dropped_after_a_second():
    steady = events_of([(t, 3, 2) for t in range(0, 3_000_000, 5_000)])
    passes = HotPixels(SENSOR).passing(steady)
    assert passes[steady["t"] < 1_000_000].all()
    assert not passes[steady["t"] >= 1_000_000].any()


def test_a_pixel_that_comes_to_rest_is_no_longer_hot():
    hot = HotPixels(SENSOR)
    hot.passing(events_of([(t, 3, 2) for t in range(0, 1_100_000, 5_000)]))
    assert not hot.passing(events_of([(1_200_000, 3, 2)])).any()
    assert hot.passing(events_of([(2_300_000, 3, 2)])).all()


def test_a_busy_place_is_not_hot():
    rows = [
        (t, x, y)
        for t in range(0, 2_000_000, 5_000)
        for x in range(6)
        for y in range(5)
    ]
    assert HotPixels(SENSOR).passing(events_of(rows)).all()


@pytest.mark.parametrize("kind", [BackgroundActivity, HotPixels])
def test_what_is_outside_the_sensor_passes_for_the_server_to_count(kind):
    assert kind(SENSOR).passing(events_of([(0, 60, 1), (1, 1, 50)])).all()
