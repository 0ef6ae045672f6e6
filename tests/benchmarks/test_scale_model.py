"""The model past this machine conserves what it moves and agrees with queue theory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

simpy = pytest.importorskip("simpy", reason="the model's simulator is not installed")

from benchmarks.scale import __main__ as command  # noqa: E402
from benchmarks.scale.costs import CallTimes, ReplicaCosts, StageCosts  # noqa: E402
from benchmarks.scale.fleet import Fleet, FleetShape  # noqa: E402
from benchmarks.scale.hosts import MEASURED, read_costs  # noqa: E402
from benchmarks.scale.processors import Processors  # noqa: E402
from benchmarks.scale.redis import Redis, RedisCosts  # noqa: E402
from benchmarks.scale.replica import Replica, ReplicaShape, SensorLoad, Site  # noqa: E402
from benchmarks.scale.runs import Hosting, Outcome, capacity, run_replicas  # noqa: E402
from benchmarks.scale.scenarios import lose_zone, moved, period, roll  # noqa: E402
from saccade.server.engine.scheduler import (  # noqa: E402
    LAUNCH_COST,
    Bucket,
    buckets_for,
)

FREE = StageCosts(0.0, 0.0)
THREAD = StageCosts(3e-4, 5e-5, 2e-5, 4e-4)
CALLS = CallTimes({Bucket(1, 1): 3e-4, Bucket(8, 1): 8e-4, Bucket(64, 1): 5e-3})
COSTS = ReplicaCosts(THREAD, THREAD, THREAD, CALLS, call_width=2.0, timer_s=5e-4)
SHAPE = ReplicaShape(tick_events=64)
FLEET = FleetShape(
    sensors=300,
    rate=5_000.0,
    replicas=6,
    capacity=100,
    replica_rate=1e6,
    stream_rate=3e5,
)


def conserved(outcome: Outcome, tick_events: int = 64) -> bool:
    settled = (outcome.scored + outcome.dropped) * tick_events
    return outcome.sent == settled + outcome.pending


# One replica.


@pytest.mark.parametrize("frame_events", [64, 100, 1000])
@pytest.mark.parametrize("replicas", [1, 2])
def test_events_that_come_in_are_scored_or_pending(frame_events, replicas):
    load = SensorLoad(5, 6400.0, frame_events, 3.0)
    outcome = run_replicas(COSTS, SHAPE, load, Hosting(replicas))
    assert conserved(outcome)
    assert outcome.dropped == 0
    assert outcome.pending < 5 * replicas * 64, "only open ticks are left"
    assert outcome.scored > 0


def test_under_overload_a_live_sensors_events_are_scored_dropped_or_pending():
    slow = replace(COSTS, calls=CallTimes({Bucket(1, 1): 0.02, Bucket(64, 1): 0.9}))
    load = SensorLoad(4, 64_000.0, 640, 3.0, most_ticks=20)
    outcome = run_replicas(slow, SHAPE, load)
    assert conserved(outcome)
    assert outcome.dropped > 0
    assert outcome.pending < 4 * (20 + 8) * 64
    assert outcome.p99_ms < 4000


def test_credit_bounds_what_a_session_has_under_way():
    slow = replace(COSTS, calls=CallTimes({Bucket(1, 1): 0.05}))
    shape = replace(SHAPE, own_buckets=(Bucket(1, 1),), window_events=1280)
    load = SensorLoad(1, 64_000.0, 640, 2.0)
    outcome = run_replicas(slow, shape, load)
    assert conserved(outcome)
    assert outcome.dropped == 0
    assert outcome.scored <= 7.0 / 0.05 + 1


def test_sessions_beyond_the_slots_take_turns_and_lose_nothing():
    shape = replace(SHAPE, slots=2)
    load = SensorLoad(6, 1280.0, 64, 3.0)
    outcome = run_replicas(replace(COSTS, swap_s=1e-3), shape, load)
    assert conserved(outcome)
    assert outcome.pending == 0
    assert outcome.swaps > 0
    assert run_replicas(COSTS, SHAPE, load).swaps == 0


def test_a_seed_gives_one_outcome_and_another_seed_another():
    load = SensorLoad(7, 6400.0, 64, 2.0, even=False)
    first, again = (run_replicas(COSTS, SHAPE, load, seed=3) for _ in range(2))
    assert first == again
    assert run_replicas(COSTS, SHAPE, load, seed=4) != first


@pytest.mark.parametrize("used", [0.3, 0.7])
def test_a_replica_with_one_server_waits_as_an_m_d_1_queue(used):
    call_s = 0.001
    costs = ReplicaCosts(
        FREE, FREE, FREE, CallTimes({Bucket(1, 1): call_s}), call_width=0
    )
    shape = replace(SHAPE, own_buckets=(Bucket(1, 1),), slots=50, window_events=1 << 40)
    rate = 64 * used / call_s / 50
    load = SensorLoad(50, rate, 64, 12.0, even=False, poisson=True)
    found = _mean_latency_s(costs, shape, load)
    expected = call_s * (1 + used / (2 * (1 - used)))
    assert found == pytest.approx(expected, rel=0.05)


def _mean_latency_s(
    costs: ReplicaCosts, shape: ReplicaShape, load: SensorLoad
) -> float:
    env = simpy.Environment()
    host = Processors(env, 1.0)
    rng = np.random.default_rng(0)
    replica = Replica(env, Site(host, host), costs, shape, load, rng)
    env.run(load.seconds + 5)
    return float(np.mean(replica.latencies_s))


@pytest.mark.parametrize("used", [0.3, 0.6])
def test_shared_processors_keep_the_mean_of_processor_sharing(used):
    env = simpy.Environment()
    host, rng, taken = Processors(env, 1.0), np.random.default_rng(1), []

    def job(work_s: float):
        began_s = env.now
        yield host.work(work_s)
        taken.append(env.now - began_s)

    def arrivals():
        for _ in range(8_000):
            yield env.timeout(rng.exponential(1.0 / used))
            env.process(job(rng.uniform(0.0, 2.0)))  # of mean 1

    env.process(arrivals())
    env.run()
    assert np.mean(taken) == pytest.approx(1.0 / (1.0 - used), rel=0.08)
    assert host.busy_s == pytest.approx(8_000, rel=0.02)


def test_two_cores_serve_two_jobs_at_once_and_a_wide_job_with_both():
    env = simpy.Environment()
    host, ends = Processors(env, 2.0), {}

    def job(name: str, cpu_s: float, width: float):
        yield host.work(cpu_s, width)
        ends[name] = env.now

    for name, cpu_s, width in (("a", 1.0, 1.0), ("b", 1.0, 1.0), ("wide", 2.0, 2.0)):
        env.process(job(name, cpu_s, width))
    env.run()
    assert ends == pytest.approx({"a": 2.0, "b": 2.0, "wide": 2.0})
    assert host.busy_s == pytest.approx(4.0)


def test_a_faster_host_carries_more_sensors():
    load = SensorLoad(1, 6400.0, 64, 0.3)
    few, many = (capacity(COSTS, SHAPE, load, cores=n, most=128) for n in (1, 4))
    assert 0 < few < many


# Costs.


def test_the_calls_are_those_of_the_engines_benchmark(tmp_path):
    path = tmp_path / "engine.json"
    cases = {
        "1 session, single ticks": 0.25,
        "1 session, 4,096-event chunks": 1.5,
        "1,024 sessions, 16 ticks each": 900.0,
        "stateless windows": 33.0,
    }
    rows = [{"model": "m", "case": name, "p50_ms": ms} for name, ms in cases.items()]
    path.write_text(json.dumps({"cases": rows}))
    calls = CallTimes.read(path, "m", 256)
    assert calls.seconds == pytest.approx(
        {Bucket(1, 1): 2.5e-4, Bucket(1, 16): 1.5e-3, Bucket(1024, 16): 0.9}
    )
    assert calls(Bucket(8, 1)) == pytest.approx(2.5e-4 + 1.25e-3 * 7 / 15)
    assert calls(Bucket(2048, 16)) == pytest.approx(1.8)


def test_a_call_that_skips_padding_takes_as_long_as_its_work():
    full = Bucket(64, 1)
    taken_s = [CALLS.partly(full, ticks) for ticks in (1, 8, 63, 64, 80)]
    assert taken_s[0] == CALLS(Bucket(1, 1))
    assert taken_s[1] == pytest.approx(3e-4 + 4.7e-3 * 7 / 63)
    assert taken_s == sorted(taken_s)
    assert taken_s[-1] == taken_s[-2] == CALLS(full)


def test_a_replica_has_the_shapes_and_the_scheduler_of_the_server():
    assert ReplicaShape().buckets == buckets_for("cpu", 256, 256)
    assert Bucket(64, 4) in SHAPE.buckets
    wide = ReplicaShape(platform="gpu", slots=1024)
    assert Bucket(1024, 1) in wide.buckets
    assert ReplicaShape().scheduler(CALLS).launch_cost == LAUNCH_COST
    costly = CallTimes({Bucket(1, 1): 1e-3, Bucket(1024, 1): 2e-3})
    assert wide.scheduler(costly).launch_cost == pytest.approx(1023 - 1, rel=0.01)


@pytest.mark.parametrize(("platform", "taken_ms"), [("cpu", 1), ("gpu", 50)])
def test_what_only_fills_a_call_costs_nothing_on_a_cpu_alone(platform, taken_ms):
    shape = replace(SHAPE, platform=platform, own_buckets=(Bucket(64, 1),))
    calls = CallTimes({Bucket(1, 1): 1e-3, Bucket(64, 1): 5e-2})
    costs = ReplicaCosts(FREE, FREE, FREE, calls, call_width=0)
    outcome = run_replicas(costs, shape, SensorLoad(1, 640.0, 64, 2.0))
    assert outcome.p50_ms == pytest.approx(taken_ms)


@pytest.mark.parametrize("text", ["{}", "no json", '{"cases": []}', '{"cases": [{}]}'])
def test_a_file_that_is_no_benchmark_is_refused_by_name(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json"):
        CallTimes.read(path, "m", 256)
    with pytest.raises(ValueError, match=r"other\.json"):
        read_costs(path)


def rounded(costs: ReplicaCosts) -> object:
    return json.loads(
        json.dumps(costs.to_json()), parse_float=lambda text: round(float(text), 6)
    )


def test_costs_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"costs": COSTS.to_json()}))
    assert rounded(read_costs(path)) == rounded(COSTS)
    assert read_costs(MEASURED).calls(Bucket(1, 1)) > 0


# The fleet.


@pytest.mark.parametrize("loss", ["killed", "silent"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_lost_zones_sessions_recover_give_up_or_are_on_their_way(loss, seed):
    fleet = Fleet(FLEET, seed)
    assert fleet.serving == 300
    lost = [one for one in fleet.replicas if one.zone == 0]
    fleet.lose(lost, loss)
    for until_s in (0.05, 3.0, 8.0, 60.0):
        fleet.env.run(until_s)
        found = fleet.serving + fleet.noticing + fleet.moving + fleet.gave_up
        assert found == 300
    assert len(fleet.recoveries) == 100
    assert fleet.serving == 300


def test_without_room_elsewhere_sessions_wait_for_new_replicas():
    full = replace(FLEET, capacity=55)
    alone = lose_zone("", full, "killed", replaced=False)
    helped = lose_zone("", full, "killed", replaced=True)
    assert alone.lost == 300 - 4 * 55
    assert alone.refused > 0
    assert helped.lost == 0
    assert helped.first_longest_s > FLEET.warm_up_s[0]


def test_a_silent_loss_is_noticed_after_the_clients_patience():
    killed, silent = (
        lose_zone("", FLEET, loss, replaced=False) for loss in ("killed", "silent")
    )
    assert silent.first_p50_s >= FLEET.liveness_s
    assert killed.first_p50_s < FLEET.liveness_s


def test_a_rolling_update_moves_every_session_once_where_new_replicas_come_first():
    newest = roll("", replace(FLEET, placed="newest"), 2, 5.0)
    anywhere = roll("", replace(FLEET, placed="any"), 2, 5.0)
    assert newest.moves == 1.0
    assert newest.lost == newest.refused == 0
    assert anywhere.moves > 1.2


def test_a_longer_snapshot_period_costs_less_and_replays_more():
    often, seldom = (period(FLEET, seconds, 14_000, 0) for seconds in (1.0, 10.0))
    # A look for what is due comes every 50 ms, so 1 s lasts a little longer.
    assert often.saves_per_s == pytest.approx(10 * seldom.saves_per_s, rel=0.03)
    assert often.loop_share == pytest.approx(10 * seldom.loop_share, rel=0.03)
    assert often.checks_per_s == 0 < seldom.checks_per_s < 4 * seldom.saves_per_s
    assert often.first_p50_s < seldom.first_p50_s
    assert often.kept_mb < seldom.kept_mb


def test_a_fleet_of_one_seed_is_one_fleet():
    rows = [lose_zone("", FLEET, "silent", replaced=True, seed=5) for _ in range(2)]
    assert rows[0] == rows[1]
    assert lose_zone("", FLEET, "silent", replaced=True, seed=6) != rows[0]


def test_claims_queue_behind_each_other_and_behind_snapshots():
    def last_s(saves_per_s: float) -> float:
        env = simpy.Environment()
        costs = RedisCosts(save_s=1e-4, claim_s=2e-4, fsync_s=0.0)
        redis = Redis(env, costs, saves_per_s, np.random.default_rng(0))
        env.run(env.all_of([redis.claim() for _ in range(1000)]))
        return float(env.now)

    assert last_s(0.0) == pytest.approx(0.2)
    assert last_s(5000.0) == pytest.approx(0.4, rel=0.05)


def test_sessions_that_never_moved_leave_an_empty_row():
    assert moved("none", Fleet(FLEET), 0).moves == 0


# The command.


@pytest.mark.slow
def test_the_command_writes_all_answers_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "SENSORS", (300, 600))
    monkeypatch.setattr(command, "QUICK_CAPACITY_S", 0.2)
    path = tmp_path / "scale.json"
    arguments = ["--quick", "--json", str(path), "--plot", str(tmp_path / "plots")]
    assert command.main(arguments) == 0
    written = json.loads(path.read_text())
    assert len(written["carriers"]) == 3
    assert {row["sensors"] for row in written["sizings"]} == {300, 600}
    assert all(row["lost"] == 0 for row in written["rolls"])
    assert len(list((tmp_path / "plots").iterdir())) == 3


def test_the_command_refuses_costs_that_are_none(tmp_path, capsys):
    path = tmp_path / "costs.json"
    path.write_text("{}")
    with pytest.raises(SystemExit):
        command.main(["--quick", "--costs", str(path)])
    assert "costs.json" in capsys.readouterr().err
