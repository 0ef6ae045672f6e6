"""Sessions with a bound on their lag, over a real engine that a fake clock drives."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings, strategies as st

from saccade.server.protocol.messages import Ack, Closed, Flush, Flushed, Result
from saccade.server.sessions.lead import first_ticks
from tests.server.sessions.bench import WINDOW, Bench, BenchClient
from tests.toy import TICK, some_events

BENCH = Bench()
STEP_S = 0.01


class Film:
    """A camera before a session, and the time that passes meanwhile."""

    def __init__(self, **choices: Any) -> None:
        BENCH.begin()
        self.now_s = 100.0
        self.total = 0
        self.client: BenchClient = BENCH.open(lambda: self.now_s, **choices)

    def send(self, events: int) -> None:
        self.client.send(some_events(events, start_us=10 * self.total))
        self.total += events

    def work(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.now_s += STEP_S
            BENCH.step()

    @property
    def acked(self) -> Ack:
        acks: list[Ack] = self.client.of(Ack)
        return acks[-1]

    def finish(self) -> Closed:
        while not self.client.session.drained:
            self.work()
        self.client.session.close()
        (closed,) = self.client.of(Closed)
        BENCH.release(self.client)
        return closed


def test_under_block_a_client_is_told_its_lag_and_a_window_that_follows() -> None:
    film = Film(max_lag_ms=100)
    for _ in range(20):
        film.send(2 * TICK)
        film.work(3)
    assert film.acked.lag_ms is not None
    assert film.acked.window_events is not None
    fast = film.acked.window_events
    for _ in range(20):
        film.send(TICK)
        film.now_s += 0.5
        film.work(3)
    assert 2 * TICK <= film.acked.window_events < fast <= WINDOW
    assert film.finish().events == film.total


def test_without_a_bound_nothing_is_said_of_the_lag() -> None:
    film = Film()
    film.send(4)
    film.work(3)
    assert (film.acked.lag_ms, film.acked.window_events) == (None, None)
    film.finish()


def test_a_stalled_engine_costs_a_live_source_what_became_too_old() -> None:
    film = Film(max_lag_ms=100, when_full="drop-oldest")
    film.send(100)
    film.now_s += 1.0
    film.send(10)
    film.work(8)
    closed = film.finish()
    newest = film.client.of(Result)[-1]
    assert newest.t_us == 10 * (film.total - 1)
    assert closed.dropped
    given = TICK * first_ticks(TICK)  # the engine has these, so they stay
    assert closed.dropped >= 100 - given - TICK
    assert closed.events + closed.dropped + closed.pending == film.total


MOVES = st.lists(
    st.tuples(
        st.integers(0, 60), st.integers(0, 4), st.floats(0.0, 0.3), st.booleans()
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(MOVES, st.sampled_from([20, 100, 1000]))
def test_every_event_is_scored_pending_or_dropped_and_counted_once(
    moves: list[tuple[int, int, float, bool]], max_lag_ms: int
) -> None:
    film, flushes = Film(max_lag_ms=max_lag_ms, when_full="drop-oldest"), 0
    session = film.client.session
    for events, steps, pause_s, flush in moves:
        film.send(events)
        film.now_s += pause_s
        film.work(steps)
        if flush:
            flushes += 1
            session.flush(Flush(flushes))
        waiting = session._input.ahead + len(session._input._queue)
        assert session._fresh.under_way == waiting
        ledger = film.client.conversation.ledger
        assert ledger.dropped is not None
        scored = session._input.ticks * TICK
        assert scored + waiting + ledger.dropped == film.total
    closed = film.finish()
    assert closed.dropped is not None
    assert closed.events + closed.pending + closed.dropped == film.total
    assert len(film.client.of(Flushed)) == flushes
