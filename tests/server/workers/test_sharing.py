"""Limits and metrics of several processes are those of the whole server."""

from __future__ import annotations

import msgpack
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Info, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from saccade.server.devices import Devices
from saccade.server.engine.leases import Leases
from saccade.server.protocol.errors import TooManySessions
from saccade.server.settings import Settings
from saccade.server.transport.collectors import HistogramCollector
from saccade.server.transport.rate_limits import KeyLimits, KeyQuotas
from saccade.server.transport.send_queue import SendQueue
from saccade.server.workers.assignment import Assignment
from saccade.server.workers.merged_metrics import Counts, families_of, merged


def quotas(now: list[float], **limits: float) -> KeyQuotas:
    return KeyQuotas(KeyLimits(**limits), lambda: now[0])


def queue() -> SendQueue:
    return SendQueue(10, lambda code: None)


def test_a_rate_is_one_for_all_processes() -> None:
    now = [0.0]
    one, other = (quotas(now, events_per_s=1000.0) for _ in range(2))
    assert one.of("ann").charge(events=1000) == 0.0
    other.absorb(0, one.take_usage())
    assert other.of("ann").charge(events=500) == pytest.approx(0.5)
    one.absorb(1, other.take_usage())
    assert one.of("ann").charge(events=0) == pytest.approx(0.5)
    assert one.take_usage() == {}, "what came from elsewhere is not told again"


def test_sessions_are_counted_in_all_processes_until_one_ends() -> None:
    now = [0.0]
    one, other = (quotas(now, sessions=2) for _ in range(2))
    for _ in range(2):
        one.of("ann").add_session(queue())
    other.absorb(0, one.take_usage())
    with pytest.raises(TooManySessions):
        other.of("ann").add_session(queue())
    other.of("bob").add_session(queue())
    other.forget(0)
    other.of("ann").add_session(queue())


def counted(sessions: int, seconds: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("sessions", "Sessions", ["model"], registry=registry).labels("a").inc(
        sessions
    )
    Gauge("open", "Open", registry=registry).set(sessions)
    Gauge("store_up", "Works", registry=registry).set(sessions == 3)
    Gauge("failures_in_a_row", "Failures", registry=registry).set(sessions)
    Info("build", "Versions", registry=registry).info({"version": "1"})
    latency = HistogramCollector("s", "Seconds", (), (0.1, 1.0))
    latency.of().observe(seconds, f"of {sessions}")
    registry.register(latency)
    return registry


@pytest.fixture
def both() -> Collector:
    """The metrics of two processes, as they come from the other one."""
    parts = [families_of(counted(3, 0.05)), families_of(counted(4, 0.5))]
    return merged(msgpack.unpackb(msgpack.packb(parts)))


def test_each_number_of_the_metrics_is_the_sum_of_all_processes(both) -> None:
    lines = generate_latest(both).decode().splitlines()
    assert 'sessions_total{model="a"} 7.0' in lines
    assert "open 7.0" in lines
    assert 's_bucket{le="0.1"} 1.0' in lines
    assert 's_bucket{le="+Inf"} 2.0' in lines
    assert "s_sum 0.55" in lines
    assert lines.count("# TYPE sessions_total counter") == 1


def test_what_is_no_number_of_things_is_that_of_the_worst_process(both) -> None:
    lines = generate_latest(both).decode().splitlines()
    assert "store_up 0.0" in lines
    assert "failures_in_a_row 4.0" in lines
    assert 'build_info{version="1"} 1.0' in lines


def test_the_sum_of_processes_is_openmetrics_with_each_one_s_exemplars(both) -> None:
    text = openmetrics.generate_latest(both).decode()
    named = [
        sample.exemplar.labels["session"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar
    ]
    assert named == ["of 3", "of 4"]


def test_what_a_process_had_counted_stays_after_its_end() -> None:
    counts = Counts()
    for process, sessions in enumerate((3, 4)):
        counts.hear(process, families_of(counted(sessions, 0.05)))
    counts.end(0)
    counts.hear(1, msgpack.unpackb(msgpack.packb(families_of(counted(5, 0.5)))))
    lines = generate_latest(merged(counts.all())).decode().splitlines()
    assert 'sessions_total{model="a"} 8.0' in lines
    assert 's_bucket{le="0.1"} 1.0' in lines
    assert "s_count 2.0" in lines
    assert "open 5.0" in lines, "what a process has, ends with it"
    assert "store_up 0.0" in lines
    for process in (0, 1):  # 0 has told nothing since
        counts.end(process)
    lines = generate_latest(merged(counts.all())).decode().splitlines()
    assert 'sessions_total{model="a"} 8.0' in lines
    assert not any(line.startswith("open") for line in lines)


def test_workers_share_the_slots_without_rest(tmp_path) -> None:
    settings = Settings(slots=7, sessions=10, workers=3)
    parts = [Assignment(settings, k, tmp_path, tmp_path, ()) for k in range(3)]
    assert sorted(slot for part in parts for slot in part.slots[0]) == [*range(7)]
    assert min(len(part.slots[0]) for part in parts) == 2
    assert all(part.sessions == 4 for part in parts)
    assert Leases("toy", parts[2].slots[0]).acquire().slot in parts[2].slots[0]


def test_each_worker_has_its_share_of_every_device(tmp_path) -> None:
    settings = Settings(slots=7, workers=3, device=Devices("cuda", (1, 3)))
    parts = [Assignment(settings, k, tmp_path, tmp_path, ()) for k in range(3)]
    shares = [[*share] for part in parts for share in part.slots]
    assert sorted(slot for share in shares for slot in share) == [*range(14)]
    assert all(max(one) < 7 <= min(other) for one, other in (p.slots for p in parts))


def test_more_workers_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="3 workers cannot share 2 slots"):
        Settings(slots=2, workers=3)
