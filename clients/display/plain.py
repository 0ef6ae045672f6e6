"""The interface of every view, and the views for logs and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Final, Protocol, Self, TextIO

from saccade.clients.display.statistics import Snapshot, Summary
from saccade.clients.display.text import (
    brief,
    clock,
    milliseconds,
    percent,
    summary_lines,
)
from saccade.model.events.reading import Findings
from saccade.server.protocol.messages import Result

LINE_EVERY_S: Final = 1.0


class View(Protocol):
    """A view shows a stream to its user; its context is entered while events stream."""

    def __enter__(self) -> Self:
        """Prepare the terminal."""
        ...

    def __exit__(self, *error: object) -> None:
        """Restore the terminal."""
        ...

    def add(self, result: Result) -> None:
        """Receive one result."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show the present state; called about twelve times a second."""
        ...

    def finish(self, summary: Summary) -> None:
        """Show the summary, after the context was left."""
        ...


class PlainView:
    """A view for logs: a line a second, and the summary.

    Where there are several at once, every line begins with the camera's name.
    """

    def __init__(self, out: TextIO, camera: str | None = None) -> None:
        self._out = out
        self._start = "" if camera is None else f"[{camera}] "
        self._next_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._out.flush()

    def add(self, result: Result) -> None:
        """Do nothing: `show` writes one line a second."""

    def show(self, snapshot: Snapshot) -> None:
        """Write a line, if a second has passed since the last."""
        if snapshot.label is None or snapshot.wall_s < self._next_s:
            return
        self._next_s = snapshot.wall_s + LINE_EVERY_S
        self._out.write(f"{self._start}{snapshot_line(snapshot)}\n")
        self._out.flush()

    def finish(self, summary: Summary) -> None:
        """Write the summary."""
        for name, value in summary_lines(summary):
            self._out.write(f"{self._start}{name:<10} {value}\n")
        self._out.flush()


class JsonView:
    """A view for programs: a line of JSON for each result, then the summary.

    Where there are several at once, every line names the camera.

    Args:
        out: Receives the lines.
        camera: The camera, where there are several.
        findings: The recording's, which grow as events are read; each trigger is
            written before the first result after it, in the clock of the file.
    """

    def __init__(
        self,
        out: TextIO,
        camera: str | None = None,
        findings: Findings | None = None,
    ) -> None:
        self._out = out
        self._findings = findings or Findings()
        self._written = 0
        self._named = {} if camera is None else {"camera": camera}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._out.flush()

    def add(self, result: Result) -> None:
        """Write a result, after the triggers before it."""
        self._write_triggers(result.t_us)
        self._write({"type": "result", **asdict(result)})

    def show(self, snapshot: Snapshot) -> None:
        """Do nothing: a program has every result."""

    def finish(self, summary: Summary) -> None:
        """Write the summary, after the last triggers."""
        self._write_triggers(math.inf)
        self._write({"type": "summary", **asdict(summary)})

    def _write_triggers(self, until_us: float) -> None:
        """Write the triggers up to a time, each once."""
        found = self._findings
        while self._written < len(found.triggers):
            trigger = found.triggers[self._written]
            t_us = trigger.t_us + (found.start_us or 0)
            if t_us > until_us:
                return
            self._write({"type": "trigger", **trigger._replace(t_us=t_us)._asdict()})
            self._written += 1

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line | self._named) + "\n")


def snapshot_line(snapshot: Snapshot) -> str:
    """Return a snapshot as one line of text."""
    label = snapshot.label or "-"
    parts = [
        f"{clock(snapshot.stream_s):>8}  {label:<18} {percent(snapshot.confidence):>7}",
        f"{brief(snapshot.events):>7} events",
        f"{brief(snapshot.events_per_s):>7} events/s",
    ]
    if snapshot.latency is not None:
        parts.append(f"latency {milliseconds(snapshot.latency.p50_ms)}")
    if snapshot.truth is not None:
        parts.append(f"really {snapshot.truth}")
    return "  ".join(parts)
