"""Placement: which replica a session goes to, and which sessions move."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from saccade.server.fleet.placement import Placement, Unplaced
from saccade.server.fleet.rebalancing import surplus
from saccade.server.fleet.report import (
    READY,
    ModelLoad,
    Replica,
    Report,
    Usage,
    replicas_of,
)

MODEL = "motions"


def replica(
    name: str,
    sessions: int = 0,
    capacity: int = 8,
    *,
    lag_s: float = 0.0,
    state: str = READY,
    draining: bool = False,
) -> Replica:
    load = ModelLoad(state, sessions, capacity, lag_s)
    return Replica(name, f"http://{name}:8000", draining, {MODEL: load})


def test_the_least_lag_wins_over_the_emptiest() -> None:
    found = [replica("slow", 1, lag_s=0.2), replica("fast", 6, lag_s=0.02)]
    assert Placement(2.0).place(found, MODEL, 0.0).name == "fast"


def test_a_lag_counts_for_less_than_what_placements_add() -> None:
    found = [replica("a", 1, 64, lag_s=0.05), replica("b", 1, 64, lag_s=0.02)]
    placement = Placement(2.0)
    names = [placement.place(found, MODEL, 0.0).name for _ in range(12)]
    assert 2 <= names.count("a") < names.count("b")


def test_the_lag_of_a_replica_without_sessions_is_of_the_past() -> None:
    found = [replica("a", 0, lag_s=0.5), replica("b", 1)]
    assert Placement(2.0).place(found, MODEL, 0.0).name == "a"


def test_an_empty_replica_does_not_get_a_whole_burst() -> None:
    found = [replica("a", 4, 64, lag_s=0.04), replica("b", 0, 64)]
    placement = Placement(2.0)
    names = [placement.place(found, MODEL, 0.0).name for _ in range(40)]
    assert 8 <= names.count("a") < names.count("b")


def test_of_equal_lags_the_emptiest_wins() -> None:
    found = [replica("a", 3), replica("b", 2), replica("c", 5)]
    assert Placement(2.0).place(found, MODEL, 0.0).name == "b"


@pytest.mark.parametrize(
    "away", [replica("a", draining=True), replica("a", state="compiling")]
)
def test_a_replica_that_starts_or_stops_gets_no_session(away: Replica) -> None:
    found = [away, replica("b", 7)]
    assert Placement(2.0).place(found, MODEL, 0.0).name == "b"
    with pytest.raises(Unplaced, match="starts or stops"):
        Placement(2.0).place([away], MODEL, 0.0)


def test_a_full_fleet_and_an_unknown_model_are_told_apart() -> None:
    placement = Placement(2.0)
    with pytest.raises(Unplaced, match="is full"):
        placement.place([replica("a", 8)], MODEL, 0.0)
    with pytest.raises(Unplaced, match="no server has the model 'digits': motions"):
        placement.place([replica("a")], "digits", 0.0)


@given(replicas=st.integers(1, 5), sessions=st.integers(0, 60))
def test_placements_between_two_heartbeats_spread_and_fill(
    replicas: int, sessions: int
) -> None:
    found = [replica(f"r{k}") for k in range(replicas)]
    placement, counts = Placement(2.0), dict.fromkeys((one.name for one in found), 0)
    placed = 0
    for _ in range(sessions):
        try:
            counts[placement.place(found, MODEL, 0.5).name] += 1
        except Unplaced:
            break
        placed += 1
    assert placed == min(sessions, 8 * replicas)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_placement_counts_until_a_heartbeat_has_told_of_it() -> None:
    placement, found = Placement(2.0), [replica("a", 0, 1)]
    placement.place(found, MODEL, 0.0)
    with pytest.raises(Unplaced):
        placement.place(found, MODEL, 1.9)
    assert placement.place(found, MODEL, 2.0).name == "a"


def test_the_reports_of_a_replica_add_up() -> None:
    parts = [
        Report("a", part, "http://a", models={MODEL: ModelLoad(READY, 2, 4, lag)})
        for part, lag in enumerate((0.1, 0.3))
    ]
    (found,) = replicas_of(parts)
    assert found.models[MODEL] == ModelLoad(READY, 4, 8, 0.3)
    starting = Report("a", 2, "http://a", models={MODEL: ModelLoad("warming", 0, 4)})
    (found,) = replicas_of([*parts, starting])
    assert not found.serves(MODEL)


@given(
    st.builds(
        Report,
        replica=st.text(),
        part=st.integers(0, 64),
        url=st.text(),
        draining=st.booleans(),
        models=st.dictionaries(
            st.text(),
            st.builds(
                ModelLoad, st.text(), st.integers(0), st.integers(0), st.floats(0, 9)
            ),
        ),
        keys=st.dictionaries(st.text(), st.builds(Usage, *4 * [st.integers(0)])),
    )
)
def test_a_report_is_read_as_it_was_written(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize("text", ["", "1", "{}", '{"models": 1, "keys": {}}', "[]"])
def test_what_is_no_report_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Report.from_json(text)


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    bound=st.integers(1, 8),
)
def test_moves_end_and_leave_no_replica_far_above_its_share(
    counts: list[int], bound: int
) -> None:
    total, moved = sum(counts), 0
    for _ in range(1000):
        found = [replica(f"r{k}", n, 50) for k, n in enumerate(counts)]
        moving = [min(bound, surplus(found, MODEL, n, 50)) for n in counts]
        if not any(moving):
            break
        for source, many in enumerate(moving):
            for _ in range(many):
                counts[source] -= 1
                counts[counts.index(min(counts))] += 1
                moved += 1
    else:
        raise AssertionError("sessions move for ever")
    assert sum(counts) == total
    assert moved <= total
    assert max(counts) <= 1.25 * total / len(counts) + 2
