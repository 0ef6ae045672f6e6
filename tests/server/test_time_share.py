"""A part of a thread's time for some work, and what was saved up of it."""

from __future__ import annotations

from hypothesis import given, strategies as st

from saccade.server.engine.time_share import TimeShare


@given(
    share=st.floats(0.05, 1.0),
    saved_s=st.floats(0.0, 0.01),
    steps=st.lists(st.tuples(st.floats(1e-5, 5e-3), st.floats(0.0, 0.05)), max_size=60),
)
def test_no_more_than_the_share_is_taken_beside_what_was_saved_up(
    share: float, saved_s: float, steps: list[tuple[float, float]]
) -> None:
    """The last work may be longer than what was left."""
    time_share, now_s, took_s, longest_s = TimeShare(share, saved_s), 0.0, 0.0, 0.0
    for work_s, pause_s in steps:
        if time_share.allows(now_s):
            now_s += work_s
            time_share.took(work_s, now_s)
            took_s += work_s
            longest_s = max(longest_s, work_s)
            assert took_s <= share * now_s + saved_s + longest_s + 1e-9
        now_s += pause_s


def test_it_goes_on_once_the_work_is_paid_for() -> None:
    share = TimeShare(0.25, saved_s=0.0)
    share.took(1.0, now_s=10.0)
    assert not share.allows(13.9)
    assert share.allows(14.0)


def test_work_that_pauses_has_something_saved_up() -> None:
    share = TimeShare(0.25, saved_s=1.0)
    for _ in range(2):
        share.took(0.5, now_s=100.0)
        assert share.allows(100.0)
    share.took(0.1, now_s=100.0)
    assert not share.allows(100.0)
