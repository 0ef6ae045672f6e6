"""One replica, frame by frame: clients, event loop, device thread, compiled calls.

The order of work is the server's own: its scheduler (`saccade.server.engine.scheduler`)
chooses the batches, one batch is computed while the next is packed, a turn of the event
loop takes all that waits, credit bounds what a client has under way, and a session
beyond the slots gets the slot of one that has nothing to score.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import simpy

from benchmarks.scale.costs import CallTimes, ReplicaCosts, StageCosts
from benchmarks.scale.processors import Processors, Steps
from benchmarks.scale.threads import Mailbox, Thread
from saccade.server.engine.scheduler import (
    ACCELERATOR_LAUNCH_COST,
    LAUNCH_COST,
    Batch,
    Bucket,
    Scheduler,
    buckets_for,
    fit_launch_cost,
)

CPU: Final = "cpu"
ACCELERATOR: Final = "gpu"
"""JAX's names of the kinds of devices."""


@dataclass(frozen=True)
class ReplicaShape:
    """How a replica is set up.

    Attributes:
        tick_events: Events in a tick.
        platform: JAX's name of the device's kind. On a CPU native code runs, which
            skips what only fills a call's shape.
        own_buckets: Compiled shapes; None for those that suit the device.
        slots: Sessions that are on the device at one time.
        window_events: Events that a session may have under way.
        workers: Processes that share the sockets beside the engine's; 0: one process
            does everything, and its two threads share Python's lock.
    """

    tick_events: int = 256
    platform: str = CPU
    own_buckets: tuple[Bucket, ...] | None = None
    slots: int = 256
    window_events: int = 1 << 19
    workers: int = 0

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Compiled shapes."""
        default = buckets_for(self.platform, self.slots, self.tick_events)
        return self.own_buckets or default

    @property
    def skips_padding(self) -> bool:
        """Whether a call takes as long as its real work."""
        return self.platform == CPU

    def scheduler(self, calls: CallTimes) -> Scheduler:
        """Return the scheduler that the server has around such calls."""
        launch = LAUNCH_COST
        if self.platform != CPU:
            seconds = {bucket: calls(bucket) for bucket in self.buckets}
            launch = fit_launch_cost(seconds, ACCELERATOR_LAUNCH_COST)
        padding = 0.0 if self.skips_padding else 1.0
        return Scheduler(self.buckets, self.slots, launch, padding)


@dataclass(frozen=True)
class SensorLoad:
    """What every sensor of a replica sends.

    Attributes:
        sensors: How many.
        rate: Events per second of each.
        frame_events: Events a frame.
        seconds: How long they send.
        results_a_tick: Share of the ticks that are reported.
        even: Whether their frames take turns, as the load generator's do; otherwise
            each begins at a random moment.
        poisson: Whether the frames come at random moments, at the same rate.
        most_ticks: Whole ticks of a session that may wait before the oldest are
            dropped; None: the sensor waits for credit, and nothing is dropped.
    """

    sensors: int
    rate: float
    frame_events: int
    seconds: float
    results_a_tick: float = 1.0
    even: bool = True
    poisson: bool = False
    most_ticks: int | None = None

    @property
    def frame_s(self) -> float:
        """How long a frame lasts, s."""
        return self.frame_events / self.rate


@dataclass
class SimulatedSession:
    """One session: what its client sent, and what became of it.

    Attributes:
        number: Its place among the replica's sessions.
        held: Frames that are due and wait in the client for credit, as due times.
        due_s: When each tick that is neither scored nor dropped was due.
        sent: Events sent.
        settled: Events acknowledged to the client, scored or dropped.
        received: Events that reached the event loop.
        scored: Ticks scored.
        dropped: Ticks dropped.
        queued: Ticks that wait for the device.
        in_flight: Ticks in the batch under way.
    """

    number: int
    held: deque[float] = field(default_factory=deque)
    due_s: deque[float] = field(default_factory=deque)
    sent: int = 0
    settled: int = 0
    received: int = 0
    scored: int = 0
    dropped: int = 0
    queued: int = 0
    in_flight: int = 0


class _Frame(NamedTuple):
    session: SimulatedSession
    due_s: float


class _Scores(NamedTuple):
    """Ticks of one session that are scored, with when each was due."""

    session: SimulatedSession
    due_s: tuple[float, ...]


class _Submit(NamedTuple):
    session: SimulatedSession
    ticks: int


Item: TypeAlias = _Frame | _Scores


class _InFlight(NamedTuple):
    batch: Batch
    sessions: list[SimulatedSession]
    done: simpy.Event


class Site(NamedTuple):
    """Where replicas and their clients run.

    Attributes:
        servers: The cores of the replicas' host.
        clients: The cores of the clients' host, which may be the same.
    """

    servers: Processors
    clients: Processors


class Replica:
    """A simulated replica and the process of its clients.

    Args:
        env: The simulation.
        site: Where they run; other replicas may run there as well.
        costs: What each stage costs.
        shape: How the replica is set up.
        load: What its sensors send.
        rng: Draws the sensors' beginnings.

    Attributes:
        sessions: All of them.
        latencies_s: Of each tick that was scored, from when it was due to when its
            client had the score, s.
        device_busy_s: How long the device computed, s.
        swaps: Sessions swapped out for others.
    """

    def __init__(
        self,
        env: simpy.Environment,
        site: Site,
        costs: ReplicaCosts,
        shape: ReplicaShape,
        load: SensorLoad,
        rng: np.random.Generator,
    ) -> None:
        self._env, self._processors = env, site.servers
        self._costs, self._shape, self._load = costs, shape, load
        self.sessions = [SimulatedSession(n) for n in range(load.sensors)]
        self.latencies_s: list[float] = []
        self.device_busy_s = 0.0
        self.swaps = 0
        lock = simpy.Resource(env)
        self._client = Thread[Item](env, site.clients, self._client_s, self._at_client)
        self._loops = [
            Thread[Item](
                env,
                site.servers,
                self._loop_s,
                self._at_loop,
                None if shape.workers else lock,
            )
            for _ in range(max(shape.workers, 1))
        ]
        self._submits = Mailbox[_Submit](env)
        self._scheduler = shape.scheduler(costs.calls)
        self._device = simpy.Resource(env)
        self._slot_of: OrderedDict[int, int] = OrderedDict()  # the longest silent first
        self._holder: dict[int, SimulatedSession] = {}
        self._without_slot: deque[SimulatedSession] = deque()
        env.process(self._device_thread(lock))
        for session in self.sessions:
            env.process(self._sensor(session, rng))

    # The clients.

    def _sensor(self, session: SimulatedSession, rng: np.random.Generator) -> Steps:
        """Post each frame when it is due, whether or not it may be sent."""
        load, place = self._load, session.number / self._load.sensors
        frame_s = load.frame_s
        due_s = frame_s * (place if load.even else rng.random())
        while True:
            due_s += rng.exponential(frame_s) if load.poisson else frame_s
            if due_s > load.seconds:
                return
            yield self._env.timeout(due_s + self._costs.timer_s - self._env.now)
            self._client.mailbox.post(_Frame(session, due_s))

    def _client_s(self, items: list[Item], slept_s: float) -> float:
        return self._turn_s(self._costs.client, items, slept_s)

    def _at_client(self, items: list[Item]) -> None:
        for item in items:
            session = item.session
            if isinstance(item, _Frame):
                session.held.append(item.due_s)
            else:
                self.latencies_s += [self._env.now - due_s for due_s in item.due_s]
                session.settled += len(item.due_s) * self._shape.tick_events
            self._send(session)

    def _send(self, session: SimulatedSession) -> None:
        """Send every frame that is due and that credit allows; one alone always may."""
        size = self._load.frame_events
        while session.held:
            under_way = session.sent - session.settled
            keeps_credit = self._load.most_ticks is None
            if keeps_credit and under_way and (
                under_way + size > self._shape.window_events
            ):  # fmt: skip
                return
            frame = _Frame(session, session.held.popleft())
            session.sent += size
            self._loop_of(session).post_later(frame, self._costs.hand_over_s)

    # The event loop.

    def _loop_of(self, session: SimulatedSession) -> Mailbox[Item]:
        return self._loops[session.number % len(self._loops)].mailbox

    def _loop_s(self, items: list[Item], slept_s: float) -> float:
        return self._turn_s(self._costs.loop, items, slept_s)

    def _turn_s(self, costs: StageCosts, items: list[Item], slept_s: float) -> float:
        frames = sum(isinstance(item, _Frame) for item in items)
        ticks = sum(len(item.due_s) for item in items if isinstance(item, _Scores))
        return costs.of_turn(slept_s, frames, ticks * self._load.results_a_tick)

    def _at_loop(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, _Frame):
                self._receive(item)
            else:
                self._client.mailbox.post_later(item, self._costs.hand_over_s)

    def _receive(self, frame: _Frame) -> None:
        session, tick = frame.session, self._shape.tick_events
        before = session.received // tick
        session.received += self._load.frame_events
        ticks = session.received // tick - before
        session.due_s += [frame.due_s] * ticks
        if ticks:
            submit = _Submit(session, ticks)
            self._submits.post_later(submit, self._costs.hand_over_s)

    # The device thread.

    def _device_thread(self, lock: simpy.Resource) -> Steps:
        """Launch the next batch, then deliver the one before: `Device._step`."""
        flight: _InFlight | None = None
        while True:
            ended_s = self._env.now
            if flight is None and not self._scheduler.waiting:
                yield self._submits.filled()
            slept_s = self._env.now - ended_s
            submits = self._submits.take()
            swaps = self.swaps
            for submit in submits:
                self._submit(submit)
            batch = self._scheduler.next_batch()
            rows = 0 if batch is None else len(batch.slots)
            cpu_s = self._costs.device.of_turn(slept_s, rows)
            cpu_s += (self.swaps - swaps) * self._costs.swap_s
            with lock.request() as held:
                yield held
                yield self._processors.work(cpu_s)
            if flight is not None and flight.done.processed:
                self._deliver(flight)
                flight = None
            launched = None if batch is None else self._launch(batch)
            if flight is not None:
                yield flight.done
                self._deliver(flight)
            flight = launched

    def _submit(self, submit: _Submit) -> None:
        session = submit.session
        session.queued += submit.ticks
        slot = self._slot_of.get(session.number)
        if slot is not None:
            self._scheduler.add(slot, submit.ticks)
            self._slot_of.move_to_end(session.number)
        elif session not in self._without_slot:
            self._without_slot.append(session)
        self._drop_overdue(session)
        self._swap_in()

    def _drop_overdue(self, session: SimulatedSession) -> None:
        """Drop the oldest ticks that wait, of a sensor that does not wait itself."""
        if self._load.most_ticks is None:
            return
        excess = session.queued - self._load.most_ticks
        if excess <= 0:
            return
        slot = self._slot_of.get(session.number)
        if slot is not None:
            self._scheduler.drop(slot)
            self._scheduler.add(slot, session.queued - excess)
        for _ in range(excess):
            del session.due_s[session.in_flight]
        session.queued -= excess
        session.dropped += excess

    def _swap_in(self) -> None:
        """Give slots to sessions without one: free ones, then those of idle ones."""
        while self._without_slot:
            slot = self._free_slot()
            if slot is None:
                return
            session = self._without_slot.popleft()
            self._slot_of[session.number] = slot
            self._holder[slot] = session
            self._scheduler.add(slot, session.queued)

    def _free_slot(self) -> int | None:
        if len(self._slot_of) < self._shape.slots:
            return len(self._slot_of)
        for number, slot in self._slot_of.items():
            holder = self._holder[slot]
            if not holder.queued and not holder.in_flight:
                del self._slot_of[number]
                self.swaps += 1
                return slot
        return None

    def _launch(self, batch: Batch) -> _InFlight:
        sessions = [self._holder[slot] for slot in batch.slots.tolist()]
        for session, ticks in zip(sessions, batch.counts.tolist(), strict=True):
            session.queued -= ticks
            session.in_flight += ticks
        done = self._env.process(self._call(batch))
        return _InFlight(batch, sessions, done)

    def _call(self, batch: Batch) -> Steps:
        calls, width = self._costs.calls, self._costs.call_width
        skips = self._shape.skips_padding
        call_s = (
            calls.partly(batch.bucket, batch.ticks) if skips else calls(batch.bucket)
        )
        with self._device.request() as held:
            yield held
            self.device_busy_s += call_s
            if width:
                yield self._processors.work(call_s * width, width)
            else:
                yield self._env.timeout(call_s)

    def _deliver(self, flight: _InFlight) -> None:
        counts = flight.batch.counts.tolist()
        for session, ticks in zip(flight.sessions, counts, strict=True):
            session.in_flight -= ticks
            session.scored += ticks
            due_s = tuple(session.due_s.popleft() for _ in range(ticks))
            scores = _Scores(session, due_s)
            self._loop_of(session).post_later(scores, self._costs.hand_over_s)
        self._swap_in()
