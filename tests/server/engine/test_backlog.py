from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from saccade.server.engine.errors import BacklogFull
from saccade.server.engine.pool import Backlog
from tests.toy import chunk


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 30)),
            st.tuples(st.just("take"), st.integers(0, 10)),
        ),
        max_size=80,
    )
)
def test_events_leave_in_the_order_in_which_they_came(
    moves: list[tuple[str, int]],
) -> None:
    backlog, tick = Backlog(3, 90), 3
    came, left = 0, 0
    for move, amount in moves:
        if move == "add":
            new = chunk(list(range(came, came + amount)), t_us=10 * came)
            if came - left + amount > 90:
                with pytest.raises(BacklogFull):
                    backlog.append(new)
                continue
            ticks = backlog.ticks
            assert backlog.append(new) == backlog.ticks - ticks
            came += amount
        else:
            ticks = min(amount, backlog.ticks)
            tokens, dt_ms = np.zeros(40, np.int32), np.zeros(40, np.float32)
            ends = backlog.take(ticks, tokens, dt_ms)
            assert len(ends) == ticks
            assert tokens[: ticks * tick].tolist() == list(
                range(left, left + ticks * tick)
            )
            left += ticks * tick
        assert len(backlog) == came - left
        assert backlog.ticks == (came - left) // tick


def test_a_tick_ends_at_its_last_event() -> None:
    backlog = Backlog(2, 10)
    backlog.append(chunk([1, 2, 3, 4, 5], t_us=100))
    tokens, dt_ms = np.zeros(4, np.int32), np.zeros(4, np.float32)
    assert backlog.take(2, tokens, dt_ms).tolist() == [101, 103]
    assert len(backlog) == 1


def test_a_full_backlog_says_what_it_holds() -> None:
    backlog = Backlog(2, 4)
    backlog.append(chunk([1, 2, 3]))
    with pytest.raises(BacklogFull, match=r"2 events offered.*3 of 4"):
        backlog.append(chunk([4, 5]))
    assert len(backlog) == 3
