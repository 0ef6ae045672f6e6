"""How many replicas the policy asks Ray Serve for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from saccade.server.ray_serve.autoscaling import (
    LAG,
    OCCUPANCY,
    LagAndOccupancy,
    ReplicaLoad,
    Targets,
    wanted_replicas,
)

TARGETS = Targets(occupancy=0.5, lag_s=0.1)
QUIET = ReplicaLoad(0.0, 0.0)
RIGHT = ReplicaLoad(0.5, 0.04)


def test_replicas_on_their_targets_stay():
    assert wanted_replicas([RIGHT] * 4, TARGETS) == 4


@pytest.mark.parametrize("occupancy", [0.46, 0.5, 0.54])
def test_a_small_difference_changes_nothing(occupancy):
    assert wanted_replicas([ReplicaLoad(occupancy, 0.0)] * 4, TARGETS) == 4


def test_fuller_replicas_want_company_in_proportion():
    assert wanted_replicas([ReplicaLoad(0.75, 0.0)] * 4, TARGETS) == 6


def test_late_replicas_want_company_though_they_are_empty():
    assert wanted_replicas([ReplicaLoad(0.1, 0.15)] * 4, TARGETS) == 6


def test_one_decision_doubles_replicas_at_most():
    assert wanted_replicas([ReplicaLoad(0.5, 9.0)] * 3, TARGETS) == 6


def test_empty_replicas_leave_but_the_last():
    assert wanted_replicas([QUIET] * 5, TARGETS) == 1


def test_sessions_that_fit_into_fewer_replicas_are_served_by_fewer():
    assert wanted_replicas([ReplicaLoad(0.2, 0.0)] * 4, TARGETS) == 2


def test_replicas_stay_where_fewer_of_them_would_be_late():
    # Four at 30 ms are predicted to be three at 40 ms, and two at 60.
    assert wanted_replicas([ReplicaLoad(0.01, 0.03)] * 4, TARGETS) == 3


def test_one_replica_may_be_late_while_the_others_have_time():
    loads = [ReplicaLoad(0.5, 0.2), *[ReplicaLoad(0.5, 0.0)] * 3]
    assert wanted_replicas(loads, TARGETS) == 4


LOADS = st.builds(ReplicaLoad, st.floats(0, 1, width=32), st.floats(0, 10, width=32))


@given(st.lists(LOADS, min_size=1, max_size=50))
def test_a_decision_that_was_followed_is_not_taken_back(loads):
    """The same load, spread over as many as were wanted, wants no fewer of them."""
    wanted = wanted_replicas(loads, TARGETS)
    assert 1 <= wanted <= 2 * len(loads)
    if wanted > len(loads):
        filled = sum(one.occupancy for one in loads) / wanted
        late = sum(one.lag_s for one in loads) / wanted
        assert wanted_replicas([ReplicaLoad(filled, late)] * wanted, TARGETS) >= wanted


@pytest.mark.parametrize(
    ("occupancy", "lag_s"), [(0, 0.1), (1.1, 0.1), (0.5, 0), (0.5, float("inf"))]
)
def test_a_target_out_of_range_is_refused(occupancy, lag_s):
    with pytest.raises(ValueError, match=r"occupancy|lag_s"):
        LagAndOccupancy(occupancy, lag_s)


@dataclass
class Context:
    """What Ray Serve's context has, as far as the policy reads it."""

    target_num_replicas: int
    aggregated_metrics: dict[str, dict[str, float]] | None
    policy_state: dict[str, Any] = field(default_factory=dict)


def test_the_policy_reads_what_replicas_have_recorded():
    recorded = {OCCUPANCY: {"a": 0.9, "b": 0.9}, LAG: {"a": 0.0, "b": 0.0}}
    wanted, _ = LagAndOccupancy(0.6, 0.1)(Context(2, recorded))
    assert wanted == 3


@pytest.mark.parametrize("recorded", [None, {}, {OCCUPANCY: {"a": 1.0}}])
def test_the_number_stays_where_nothing_is_recorded(recorded):
    assert LagAndOccupancy()(Context(3, recorded))[0] == 3


def test_a_replica_that_has_recorded_one_figure_only_does_not_count():
    recorded = {OCCUPANCY: {"a": 0.6, "b": 1.0}, LAG: {"a": 0.0}}
    assert LagAndOccupancy(0.6, 0.1)(Context(2, recorded))[0] == 1
