"""The way of a few frames from a session to the engine and back, as spans.

    frame     from the event loop that owns the session, until its scores are back
      engine  in the process that owns the device: from its commands to its scores
        device  the call that scored it, from its launch to its scores

A frame is known by the page of its last tick, which returns once it is scored. At most
one frame of a process is under way at a time, and one a second; only sessions whose own
span is recorded have some. No event is touched, and no other page is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import get_ident
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import (
    TraceContextTextMapPropagator,
)

from saccade.server.engine.commands import Command, Submit
from saccade.server.engine.engine_link import EngineLink
from saccade.server.engine.leases import Lease
from saccade.server.engine.outputs import (
    Deliver,
    DeviceOutput,
    Observer,
    PagesDone,
)
from saccade.server.engine.scheduler import Batch
from saccade.server.engine.ticks import TickArena
from saccade.server.telemetry.spans import EngineSpans, SessionOf

EVERY_S: Final = 1.0
"""Time between two frames of one process that are traced."""
LOST_S: Final = 30.0
"""After so long a page that has not come back never will: its engine has ended."""
OWN_PORT: Final = 0
"""The port of a front end in the engine's own process."""
HEADER: Final = "traceparent"

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class _Awaited(NamedTuple):
    """A page that is under way, and its span."""

    model: str
    page: int
    span: Span
    begun_s: float

    def is_in(self, output: DeviceOutput) -> bool:
        """Return whether an output brings the page back."""
        if not isinstance(output, PagesDone) or output.model != self.model:
            return False
        return bool((output.pages == self.page).any())

    def give_up(self) -> None:
        """End the span of a page that does not come back."""
        self.span.set_status(Status(StatusCode.ERROR, "its scores never came"))
        self.span.end()


class _Call(NamedTuple):
    """The newest call of a device."""

    model: str
    batch: Batch
    ended_ns: int
    seconds: float


class TracedLink:
    """A way to an engine on which one frame at a time is traced.

    Args:
        link: The way.
        tracer: Makes spans.
        session_of: Names a lease's session.
        parent_of: Returns the span of a session, where it is recorded.
        spans: Of the engine.
    """

    def __init__(
        self,
        link: EngineLink,
        tracer: Tracer,
        session_of: SessionOf,
        parent_of: Callable[[str], Context | None],
        spans: EngineSpans,
    ) -> None:
        self._link = link
        self._tracer = tracer
        self._session_of = session_of
        self._parent_of = parent_of
        self._spans = spans
        self._awaited: _Awaited | None = None
        self._next_s = 0.0

    def start(self, deliver: Deliver) -> None:
        """Begin to deliver outputs; see `EngineLink`."""

        def deliver_watched(outputs: list[DeviceOutput]) -> None:
            awaited = self._awaited
            if awaited is not None and any(map(awaited.is_in, outputs)):
                awaited.span.end()
                self._awaited = None
            deliver(outputs)

        self._link.start(self._spans.watched(OWN_PORT, deliver_watched))

    def add_arena(self, model: str, arena: TickArena) -> None:
        """Pass on; see `EngineLink`."""
        self._link.add_arena(model, arena)

    def check(self, model: str, device: int) -> None:
        """Pass on; see `EngineLink`."""
        self._link.check(model, device)

    def score_now(
        self, lease: Lease, arena: TickArena, pages: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32] | None:
        """Pass on, unless this frame is one to be traced on its way."""
        due = time.monotonic() >= self._next_s
        if due and self._parent_of_lease(lease) is not None:
            return None
        return self._link.score_now(lease, arena, pages)

    def send(self, commands: list[Command]) -> None:
        """Trace the last page of the commands if it is time; pass the commands on."""
        now_s = time.monotonic()
        if now_s >= self._next_s and isinstance(last := commands[-1], Submit):
            self._trace(last, now_s)
        self._link.send(commands)

    def _trace(self, submit: Submit, now_s: float) -> None:
        if (old := self._awaited) is not None:
            if now_s - old.begun_s < LOST_S:
                return
            self._awaited = None
            old.give_up()
        slot, generation = int(submit.slots[-1]), int(submit.generations[-1])
        parent = self._parent_of_lease(Lease(submit.model, slot, generation))
        if parent is None:
            return
        self._next_s = now_s + EVERY_S
        ticks = int((submit.slots == slot).sum())
        facts: dict[str, str | int]
        facts = {"saccade.model": submit.model, "saccade.ticks": ticks}
        span = self._tracer.start_span("frame", parent, attributes=facts)
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, set_span_in_context(span))
        page = int(submit.pages[-1])
        self._awaited = _Awaited(submit.model, page, span, now_s)
        self._spans.expect(OWN_PORT, submit.model, page, carrier[HEADER])

    def _parent_of_lease(self, lease: Lease) -> Context | None:
        """Return the span of a lease's session, where it is recorded."""
        name = self._session_of(lease)
        return None if name is None else self._parent_of(name)


class TracedEngine:
    """The spans of an engine in this process.

    Args:
        tracer: Makes spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._awaited: dict[int, _Awaited] = {}
        self._calls: dict[int, _Call] = {}

    def expect(self, port: int, model: str, page: int, parent: str) -> None:
        """Begin the span of a page that comes now; see `EngineSpans`."""
        if (old := self._awaited.pop(port, None)) is not None:
            old.give_up()
        context = _PROPAGATOR.extract({HEADER: parent})
        facts = {"saccade.model": model}
        span = self._tracer.start_span("engine", context, attributes=facts)
        self._awaited[port] = _Awaited(model, page, span, time.monotonic())

    def watched(self, port: int, deliver: Deliver) -> Deliver:
        """Return what delivers, and ends the span of a page; on the device thread."""

        def deliver_watched(outputs: list[DeviceOutput]) -> None:
            awaited = self._awaited.get(port)
            if awaited is not None and any(map(awaited.is_in, outputs)):
                del self._awaited[port]
                self._end(awaited)
            deliver(outputs)

        return deliver_watched

    def observed(self, observer: Observer) -> Observer:
        """Return an observer that remembers each device thread's newest call."""
        return _ObservedCalls(observer, self._calls)

    def _end(self, awaited: _Awaited) -> None:
        call = self._calls.get(get_ident())
        if call is not None and call.model == awaited.model:
            bucket = call.batch.bucket
            device = self._tracer.start_span(
                "device",
                set_span_in_context(awaited.span),
                attributes={
                    "saccade.bucket": f"{bucket.rows}x{bucket.ticks}",
                    "saccade.ticks": call.batch.ticks,
                },
                start_time=call.ended_ns - int(1e9 * call.seconds),
            )
            device.end(call.ended_ns)
        awaited.span.end()


class _ObservedCalls:
    """An observer of the device that remembers the newest call of each thread.

    Args:
        observer: Receives everything.
        calls: By thread.
    """

    def __init__(self, observer: Observer, calls: dict[int, _Call]) -> None:
        self._observer = observer
        self._calls = calls

    def compiled(self, model: str, seconds: float) -> None:
        """Pass on."""
        self._observer.compiled(model, seconds)

    def canary_missed(self, model: str) -> None:
        """Pass on."""
        self._observer.canary_missed(model)

    def failed(self, model: str) -> None:
        """Pass on."""
        self._observer.failed(model)

    def ran(self, model: str, batch: Batch, seconds: float) -> None:
        """Remember a call, and pass on."""
        self._calls[get_ident()] = _Call(model, batch, time.time_ns(), seconds)
        self._observer.ran(model, batch, seconds)
