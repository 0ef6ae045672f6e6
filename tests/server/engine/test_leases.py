from __future__ import annotations

import pytest

from saccade.server.engine.errors import SlotsExhausted, StaleLease
from saccade.server.engine.leases import Leases


def test_each_slot_is_lent_once() -> None:
    leases = Leases("toy", 3)
    assert {leases.lend().slot for _ in range(3)} == {0, 1, 2}
    with pytest.raises(SlotsExhausted, match="all 3 slots of 'toy'"):
        leases.lend()


def test_a_new_tenant_has_another_generation() -> None:
    leases = Leases("toy", 1)
    first = leases.lend()
    leases.give_back(first)
    second = leases.lend()
    assert second.slot == first.slot
    assert second != first


def test_an_ended_lease_is_refused() -> None:
    leases = Leases("toy", 1)
    first = leases.lend()
    second = leases.renew(first)
    with pytest.raises(StaleLease):
        leases.check(first)
    leases.give_back(second)
    with pytest.raises(StaleLease):
        leases.give_back(second)
    assert leases.used == 0
