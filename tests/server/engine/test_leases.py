from __future__ import annotations

import pytest

from saccade.server.engine.errors import SlotsExhausted, StaleLease
from saccade.server.engine.leases import Leases


def test_each_slot_is_leased_once() -> None:
    leases = Leases("toy", range(3))
    assert {leases.acquire().slot for _ in range(3)} == {0, 1, 2}
    with pytest.raises(SlotsExhausted, match="all 3 slots of 'toy'"):
        leases.acquire()


def test_a_slot_is_leased_again_under_another_generation() -> None:
    leases = Leases("toy", range(1))
    first = leases.acquire()
    leases.release(first)
    second = leases.acquire()
    assert second.slot == first.slot
    assert second != first


def test_an_ended_lease_is_refused() -> None:
    leases = Leases("toy", range(1))
    first = leases.acquire()
    second = leases.renew(first)
    with pytest.raises(StaleLease):
        leases.release(first)
    leases.release(second)
    with pytest.raises(StaleLease):
        leases.release(second)
    assert leases.used == 0
