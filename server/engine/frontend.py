"""A front end's half of an engine: leases, pages, commands out, outputs in.

A front end is whoever owns sessions: the event loop of a server. It decides which
session holds which slot, fills whole ticks into pages, and keeps each session's open
tick; the engine receives whole ticks alone. All calls are on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from saccade.model.tokens import TakenChunk
from saccade.server.engine.commands import (
    Command,
    Export,
    Fail,
    Insert,
    Release,
    Restore,
    Submit,
)
from saccade.server.engine.device_placement import DevicePlacement
from saccade.server.engine.engine_link import EngineLink, ModelShape
from saccade.server.engine.errors import (
    AlreadyServed,
    BacklogFull,
    EngineError,
    SlotsExhausted,
    StillServed,
    UnknownServable,
)
from saccade.server.engine.leases import Lease, Leases
from saccade.server.engine.merging import merged
from saccade.server.engine.outputs import (
    DeviceOutput,
    EngineOutput,
    ExportedRow,
    ExportedState,
    PagesDone,
    RowState,
    StreamFailed,
    TickScores,
)
from saccade.server.engine.residents import (
    LeasedModel,
    PendingExport,
    Resident,
    Submits,
)
from saccade.server.engine.ticks import OutOfPages, TickArena
from saccade.server.protocol.reporting import scores_of


class Frontend:
    """Leases slots of an engine to sessions and brings them their scores.

    Args:
        link: The way to the engine.
        models: The models to begin with.
        slots: By device, the slots of each model that this front end may lease.
        backlog_events: Events that one session may have waiting.
        arena: Makes the pages of a model, from tick_events, classes and their number.
        first: The device to begin with; see `DevicePlacement`.
    """

    def __init__(
        self,
        link: EngineLink,
        models: Iterable[ModelShape],
        slots: Sequence[range],
        backlog_events: int,
        arena: Callable[[int, int, int], TickArena] = TickArena,
        first: int = 0,
    ) -> None:
        self.link = link
        self._slots = slots
        self._placement = DevicePlacement(slots, first)
        self._backlog_events = backlog_events
        self._new_arena = arena
        self._models: dict[str, LeasedModel] = {}
        self._commands: list[Command] = []
        self._unsent = False
        self.wake: Callable[[], None] = self.flush
        """Called when the first command waits, so that `flush` follows soon."""
        for shape in models:
            self.add_model(shape)

    def add_model(self, shape: ModelShape) -> None:
        """Lease slots of another model.

        Raises:
            AlreadyServed: A model has that name.
        """
        if shape.key in self._models:
            raise AlreadyServed(shape.key)
        leases = [Leases(shape.key, slots) for slots in self._slots]
        arena = self._arena_of(shape)
        # A new dict: a model is loaded on another thread than the event loop's.
        self._models = {**self._models, shape.key: LeasedModel(shape, leases, arena)}
        self.link.add_arena(shape.key, arena)

    def remove_model(self, model: str) -> None:
        """Lease no slots of a model any more.

        Raises:
            UnknownServable: No model has that name.
            StillServed: A slot of it is leased.
        """
        used = self._model(model).slots_used
        if used:
            raise StillServed(model, used)
        self._models = {k: each for k, each in self._models.items() if k != model}

    def slots_used(self, model: str) -> int:
        """Return how many of a model's slots are leased."""
        return self._models[model].slots_used if model in self._models else 0

    def tick_events(self, model: str) -> int:
        """Return how many events make a tick of a model.

        Raises:
            UnknownServable: No model has that name.
        """
        return self._model(model).shape.tick_events

    def open(self, model: str, half_life_ms: float) -> Lease:
        """Lease a slot to a new session, on the device that has the most room.

        Raises:
            UnknownServable: No model has that name.
            NotReady: The model is not compiled yet, or the engine stops.
            EngineFailed: The model's pool is lost.
            SlotsExhausted: No slot is free.
        """
        lease = self._acquire(model)
        self._queue(Insert(lease, half_life_ms))
        return lease

    def restore(self, model: str, row: RowState) -> Lease:
        """Lease a slot to a session that continues from a row; raises as `open`."""
        lease = self._acquire(model)
        self._queue(Restore(lease, row.leaves))
        self.submit(lease, row.waiting)
        return lease

    def submit(
        self, lease: Lease, chunk: TakenChunk, *, at_once: bool = False
    ) -> TickScores | None:
        """Queue a session's events; they are scored once they make whole ticks.

        A session that holds more than it may fails with `BacklogFull`.

        Args:
            lease: The session's.
            chunk: The events.
            at_once: Whether the ticks may be scored here, on this thread.

        Returns:
            The scores of the ticks, where they were scored here; the caller handles
            them after all earlier outputs of the lease.

        Raises:
            StaleLease: The lease has ended.
        """
        model = self._model(lease.model)
        resident = model.resident(lease)
        count, tick = len(chunk.tokens), model.shape.tick_events
        if not count:
            return None
        waiting = len(resident.pages) * tick + resident.filled
        capacity = max(self._backlog_events, tick)
        if waiting + count > capacity:
            self._queue(Fail(lease, BacklogFull(waiting, count, capacity)))
            return None
        try:
            whole = self._fill(model, resident, chunk)
        except OutOfPages:
            self._queue(Fail(lease, BacklogFull(waiting, count, capacity)))
            return None
        if not len(whole):
            return None
        return self._send_on(model, resident, whole, at_once=at_once)

    def _send_on(
        self,
        model: LeasedModel,
        resident: Resident,
        whole: npt.NDArray[np.int32],
        *,
        at_once: bool,
    ) -> TickScores | None:
        """Score whole ticks here, or have the engine do it; see `submit`."""
        lease, begun = resident.lease, resident.submitted > 0
        resident.submitted += len(whole)
        if at_once and begun and not (resident.pages or resident.exports):
            logits = self.link.score_now(lease, model.arena, whole)
            if logits is not None:
                return _scores_of(model.arena, lease, whole, logits)
        resident.pages.extend(whole.tolist())
        self._placement.sent(lease.slot, len(whole) * model.shape.tick_events)
        if model.submits is None:
            model.submits = Submits()
        model.submits.add(lease, whole)
        self._wake()
        return None

    def reset(self, lease: Lease, half_life_ms: float) -> Lease:
        """Forget all of a session's events.

        Scores of those events that are on their way are not delivered.

        Raises:
            StaleLease: The lease has ended.
        """
        model = self._model(lease.model)
        self._end(model, lease)
        renewed = self._leases(model, lease).renew(lease)
        model.residents[renewed.slot] = Resident(renewed)
        self._queue(Insert(renewed, half_life_ms))
        return renewed

    def export(self, lease: Lease, done: Callable[[RowState], None]) -> None:
        """Request a session's row as it is once every event so far is queued.

        The row leaves as an `ExportedState` that carries `done`, in order with the
        scores: all ticks that are in the row come before it, all others after.

        Raises:
            StaleLease: The lease has ended.
        """
        model = self._model(lease.model)
        resident = model.resident(lease)
        open_tick = model.arena.events(_page_of(resident), resident.filled)
        resident.exports.append(PendingExport(resident.submitted, open_tick, done))
        self._queue(Export(lease))

    def release(self, lease: Lease) -> None:
        """Free a slot.

        Raises:
            StaleLease: The lease has ended.
        """
        model = self._model(lease.model)
        self._end(model, lease)
        self._leases(model, lease).release(lease)
        self._placement.released(lease.slot)
        self._queue(Release(lease))

    def flush(self) -> None:
        """Send the commands that wait."""
        self._unsent = False
        for key in self._models:
            self._close_submits(key)
        commands, self._commands = self._commands, []
        if commands:
            self.link.send(commands)

    def restart(self, error: EngineError) -> list[EngineOutput]:
        """Fail every session that has a slot, since the engine has lost its rows.

        The pages that the engine had are forgotten, and new ones replace them.
        """
        self._commands.clear()
        self._placement.forget()
        failed: list[EngineOutput] = []
        for key, model in self._models.items():
            model.submits = None
            model.arena = self._arena_of(model.shape)
            self.link.add_arena(key, model.arena)
            for resident in model.residents.values():
                resident.pages.clear()
                resident.exports.clear()
                resident.open_page, resident.filled = None, 0
                failed.append(StreamFailed(resident.lease, error))
        return failed

    def receive(self, outputs: list[DeviceOutput]) -> list[EngineOutput]:
        """Turn the engine's outputs into those of the streams that have a lease."""
        received: list[EngineOutput] = []
        for output in merged(outputs):
            match output:
                case PagesDone():
                    received += self._receive_pages(output)
                case ExportedRow():
                    received += self._receive_row(output)
                case StreamFailed():
                    received.append(output)
        return received

    def _receive_pages(self, done: PagesDone) -> list[TickScores]:
        model = self._models.get(done.model)
        if model is None:
            return []
        self._placement.back(done.slots, done.counts * model.shape.tick_events)
        if not done.scored:
            model.arena.free(done.pages)
            return []
        logits, ends, finite = model.arena.scores(done.pages)
        model.arena.free(done.pages)
        top, confidence = scores_of(logits)
        scores, start = [], 0
        rows = (done.slots.tolist(), done.generations.tolist(), done.counts.tolist())
        for slot, generation, count in zip(*rows, strict=True):
            resident = model.residents.get(slot)
            if resident is not None and resident.lease.generation == generation:
                for _ in range(count):
                    resident.pages.popleft()
                part = slice(start, start + count)
                good = finite or bool(np.isfinite(logits[part]).all())
                named = (logits[part], ends[part], top[part], confidence[part])
                scores.append(TickScores(resident.lease, *named, good))
            start += count
        return scores

    def _receive_row(self, row: ExportedRow) -> list[ExportedState]:
        model = self._models.get(row.lease.model)
        resident = None if model is None else model.residents.get(row.lease.slot)
        if model is None or resident is None or resident.lease != row.lease:
            return []
        submitted, open_tick, done = resident.exports.popleft()
        scored = resident.submitted - len(resident.pages)
        count = submitted - scored
        pages = np.fromiter(islice(resident.pages, count), np.int32, count)
        waiting = model.arena.events(pages, count * model.shape.tick_events, open_tick)
        return [ExportedState(row.lease, RowState(row.leaves, waiting), done)]

    def _fill(
        self,
        model: LeasedModel,
        resident: Resident,
        chunk: TakenChunk,
    ) -> npt.NDArray[np.int32]:
        """Write events to pages; return the pages that are whole.

        Raises:
            OutOfPages: There is no room; nothing was written.
        """
        tick, begin = model.shape.tick_events, resident.filled
        total = begin + len(chunk.tokens)
        count = -(-total // tick)
        if begin:
            pages = _page_of(resident)
            if count > 1:
                pages = np.concatenate([pages, model.arena.take(count - 1)])
        else:
            pages = model.arena.take(count)
        model.arena.fill(pages, begin, chunk)
        whole, resident.filled = divmod(total, tick)
        resident.open_page = int(pages[-1]) if resident.filled else None
        return pages[:whole]

    def _end(self, model: LeasedModel, lease: Lease) -> None:
        """Forget a session; the engine returns the pages that it has."""
        resident = model.resident(lease)
        del model.residents[lease.slot]
        if resident.open_page is not None:
            model.arena.free(_page_of(resident))

    def _arena_of(self, shape: ModelShape) -> TickArena:
        backlog = max(self._backlog_events, shape.tick_events)
        pages = sum(map(len, self._slots)) * (-(-backlog // shape.tick_events) + 1)
        return self._new_arena(shape.tick_events, shape.classes, pages)

    def _acquire(self, key: str) -> Lease:
        model = self._model(key)
        refusals: list[EngineError] = []
        for device in self._placement.order():
            try:
                self.link.check(key, device)
                lease = model.leases[device].acquire()
            except EngineError as error:
                refusals.append(error)
                continue
            self._placement.leased(lease.slot)
            model.residents[lease.slot] = Resident(lease)
            return lease
        if any(isinstance(error, SlotsExhausted) for error in refusals):
            raise SlotsExhausted(key, sum(map(len, self._slots)))
        raise refusals[0]

    def _leases(self, model: LeasedModel, lease: Lease) -> Leases:
        """Return the leases of the device that a slot is on."""
        return model.leases[self._placement.owner(lease.slot)]

    def _model(self, key: str) -> LeasedModel:
        if key not in self._models:
            raise UnknownServable(key)
        return self._models[key]

    def _queue(self, command: Command) -> None:
        if not isinstance(command, Submit):
            self._close_submits(command.lease.model)
        self._commands.append(command)
        self._wake()

    def _close_submits(self, key: str) -> None:
        model = self._models[key]
        if model.submits is not None:
            self._commands.append(model.submits.command(key))
            model.submits = None

    def _wake(self) -> None:
        if not self._unsent:
            self._unsent = True
            self.wake()


def _scores_of(
    arena: TickArena,
    lease: Lease,
    pages: npt.NDArray[np.int32],
    logits: npt.NDArray[np.float32],
) -> TickScores:
    """Return the scores of pages that the engine has not had, and free these."""
    ends = arena.ends(pages)
    arena.free(pages)
    finite = bool(np.isfinite(logits).all())
    return TickScores(lease, logits, ends, *scores_of(logits), finite)


def _page_of(resident: Resident) -> npt.NDArray[np.int32]:
    """Return the open tick's page, (1,), or (0,) where it has no event."""
    pages = [] if resident.open_page is None else [resident.open_page]
    return np.array(pages, np.int32)
