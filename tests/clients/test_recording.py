from __future__ import annotations

import numpy as np
import pytest

from saccade.clients.recording import Recorder, Unrecordable
from saccade.model.events.reading import Findings
from saccade.model.events.recordings import open_recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE

SENSOR = Sensor(640, 480)
EPOCH_US = 1_700_000_000_000_000


def some_events(count, start_us=EPOCH_US):
    rng = np.random.default_rng(5)
    events = np.empty(count, EVENT_DTYPE)
    events["t"] = start_us + np.sort(rng.integers(0, 10**6, count))
    events["x"] = rng.integers(0, SENSOR.width, count)
    events["y"] = rng.integers(0, SENSOR.height, count)
    events["p"] = rng.integers(0, 2, count)
    return events


def recorded(path, *chunks):
    findings = Findings()
    with Recorder(path, SENSOR, findings) as recorder:
        assert [len(c) for c in recorder.passed(iter(chunks))] == [*map(len, chunks)]
    return findings


def test_what_was_streamed_is_read_back_whole(tmp_path):
    events = some_events(5_000)
    path = tmp_path / "kept.aedat4"
    recorded(path, events[:10], events[:0], events[10:3_000], events[3_000:])
    recording = open_recording(path)
    assert (recording.sensor, recording.origin) == (SENSOR, "header")
    back = np.concatenate(list(recording.events))
    events["t"] -= events["t"][0]
    assert np.array_equal(back, events)


def test_a_foreign_reader_reads_it_with_its_times(tmp_path):
    dv = pytest.importorskip("dv_processing")
    events = some_events(1_000)
    recorded(tmp_path / "kept.aedat4", events)
    reader = dv.io.MonoCameraRecording(str(tmp_path / "kept.aedat4"))
    assert tuple(reader.getEventResolution()) == (640, 480)
    back = reader.getNextEventBatch().numpy()
    for name, theirs in (("t", "timestamp"), ("x", "x"), ("y", "y"), ("p", "polarity")):
        assert np.array_equal(back[theirs], events[name])


def test_an_event_that_steps_back_is_counted_instead(tmp_path):
    events = some_events(100)
    events["t"][50] = 0
    findings = recorded(tmp_path / "kept.aedat4", events[:50], events[50:])
    assert findings.skipped == {"events out of order (not recorded)": 1}
    back = np.concatenate(list(open_recording(tmp_path / "kept.aedat4").events))
    assert back.size == 99


def test_a_recording_is_never_written_over(tmp_path):
    (tmp_path / "kept.aedat4").write_text("a year's work")
    with pytest.raises(Unrecordable, match="already"):
        Recorder(tmp_path / "kept.aedat4", SENSOR, Findings())
    with pytest.raises(Unrecordable, match=r"name it kept\.aedat4"):
        Recorder(tmp_path / "kept.raw", SENSOR, Findings())
    with pytest.raises(Unrecordable, match="nowhere"):
        Recorder(tmp_path / "nowhere" / "kept.aedat4", SENSOR, Findings())


def test_nothing_is_written_after_the_end(tmp_path):
    with Recorder(tmp_path / "kept.aedat4", SENSOR, Findings()) as recorder:
        recorder.write(some_events(10))
    recorder.write(some_events(10, EPOCH_US * 2))
    back = np.concatenate(list(open_recording(tmp_path / "kept.aedat4").events))
    assert back.size == 10
