"""The live view in a terminal: class scores, redrawn while events stream."""

from __future__ import annotations

from itertools import groupby
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from saccade.clients.display.statistics import (
    HISTORY_COLUMNS,
    Moment,
    Snapshot,
    Summary,
)
from saccade.clients.display.text import (
    brief,
    clock,
    milliseconds,
    percent,
    summary_lines,
)
from saccade.server.protocol.messages import Result

ACCENT: Final = "cyan"
QUIET: Final = "bright_black"
RIGHT: Final = "green"
WRONG: Final = "yellow"
MOST_BARS: Final = 12
BAR_COLUMNS: Final = 40
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
HEIGHTS: Final = "▁▂▃▄▅▆▇█"


class LiveView:
    """A view that redraws one picture in place.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def add(self, result: Result) -> None:
        """Do nothing: the next snapshot has the result."""

    def show(self, snapshot: Snapshot) -> None:
        """Draw the next picture."""
        self._live.update(picture(snapshot), refresh=True)

    def finish(self, summary: Summary) -> None:
        """Replace the picture by the summary."""
        self._live.stop()
        self._console.print(summary_picture(summary))


def picture(snapshot: Snapshot) -> RenderableType:
    """Return a snapshot as one picture."""
    parts: list[RenderableType] = [
        _header(snapshot),
        Rule(style=QUIET),
        _verdict(snapshot),
        Text(),
        _bars(snapshot),
        Text(),
        _strip(snapshot.history),
        Rule(style=QUIET),
        _figures(snapshot),
    ]
    return Padding(Group(*parts), (1, 2))


def summary_picture(summary: Summary) -> RenderableType:
    """Return a summary as a table."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET)
    grid.add_column()
    for name, value in summary_lines(summary):
        grid.add_row(name, Text(value, style="bold" if name == "label" else ""))
    return Padding(grid, (1, 2))


def _header(snapshot: Snapshot) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column()
    grid.add_column(justify="right")
    title = Text("saccade", style=f"bold {ACCENT}")
    title.append(f"  {snapshot.source}", style="bold")
    title.append(f"  → {snapshot.model}", style=QUIET)
    grid.add_row(title, Text(clock(snapshot.stream_s), style="bold"))
    return grid


def _verdict(snapshot: Snapshot) -> Text:
    if snapshot.label is None:
        return Text("waiting for the first tick …", style=QUIET)
    text = Text(snapshot.label, style=f"bold {_tone(snapshot.label, snapshot.truth)}")
    text.append(f"  {percent(snapshot.confidence)}", style="default not bold")
    if snapshot.truth is not None:
        mark = "✓" if snapshot.truth == snapshot.label else "≠"
        text.append(f"   {mark} really {snapshot.truth}", style=f"{QUIET} not bold")
    return text


def _tone(label: str, truth: str | None) -> str:
    if truth is None:
        return ACCENT
    return RIGHT if label == truth else WRONG


def _bars(snapshot: Snapshot) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(width=BAR_COLUMNS)
    grid.add_column(justify="right", width=7, style=QUIET)
    grid.add_column(width=1, style=RIGHT)
    scores = snapshot.scores or [0.0] * len(snapshot.labels)
    rows = list(zip(snapshot.labels, scores, strict=True))
    if len(rows) > MOST_BARS:
        rows = sorted(rows, key=lambda row: -row[1])[:MOST_BARS]
    for label, score in rows:
        leads = label == snapshot.label
        name = Text(label, style="bold" if leads else QUIET)
        here = "●" if label == snapshot.truth else ""
        tone = _tone(label, snapshot.truth) if leads else QUIET
        drawn = Text(bar(score, BAR_COLUMNS), style=tone)
        grid.add_row(name, drawn, percent(score), here)
    return grid


def bar(part: float, columns: int) -> str:
    """Return a part of one as a bar, to an eighth of a column."""
    eighths = round(part * columns * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")


def _strip(history: list[Moment]) -> RenderableType:
    """Return confidence over time, and beneath it the labels and the true labels."""
    columns = _columns(history)
    heights = Text()
    for moment in columns:
        height = HEIGHTS[min(7, int(moment.confidence * 8))]
        heights.append(height, style=_tone(moment.label, moment.truth))
    lines = [heights, Text(captions([moment.label for moment in columns]))]
    if any(moment.truth for moment in columns):
        truth = captions([moment.truth or "" for moment in columns])
        lines.append(Text(truth, style=QUIET))
    return Group(*lines)


def _columns(history: list[Moment]) -> list[Moment]:
    """Return one moment a column: each lasts until the next, so none is empty."""
    columns: list[Moment] = []
    for moment in history:
        gap = moment.column - history[0].column - len(columns)
        columns.extend([columns[-1]] * gap if columns else [])
        columns.append(moment)
    return columns[-HISTORY_COLUMNS:]


def captions(labels: list[str]) -> str:
    """Return each run of equal labels, written under its columns and cut to them."""
    line = ""
    for label, run in groupby(labels):
        width = len(list(run))
        line += f"╵{label}"[:width].ljust(width) if width > 1 else "╵"
    return line


def _figures(snapshot: Snapshot) -> RenderableType:
    figures = Text()
    _figure(figures, brief(snapshot.events), "events")
    _figure(figures, brief(snapshot.events_per_s), "events/s")
    if snapshot.latency is not None:
        _figure(figures, milliseconds(snapshot.latency.p50_ms), "latency")
        _figure(figures, milliseconds(snapshot.latency.p99_ms), "p99")
    _figure(figures, brief(max(0, snapshot.waiting)), "on the way")
    losses = Text()
    if snapshot.refused_events:
        _figure(losses, brief(snapshot.refused_events), "refused", WRONG)
    if snapshot.dropped_events:
        _figure(losses, brief(snapshot.dropped_events), "dropped", WRONG)
    if snapshot.skipped_results:
        _figure(losses, brief(snapshot.skipped_results), "results skipped", WRONG)
    return Group(figures, losses) if losses else figures


def _figure(text: Text, value: str, name: str, style: str = "default") -> None:
    text.append(value, style=f"bold {style}")
    text.append(f" {name}   ", style=QUIET)
