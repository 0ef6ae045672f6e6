"""Progress of a run on the terminal: a bar, and a line for each validation."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from saccade.model.training.metrics import TrainReport


class Display:
    """The terminal's view of a run, on standard error."""

    def __init__(self, console: Console, *, bar: bool) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not bar,
        )
        self._task = self._progress.add_task("training", numbers="", total=None)

    @classmethod
    def on_terminal(cls, *, bar: bool) -> Display:
        """Return a display that writes to standard error."""
        return cls(Console(stderr=True, highlight=False), bar=bar)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, steps: int) -> None:
        """Set the number of steps at which the bar is full."""
        self._progress.update(self._task, total=steps)

    def show(self, report: TrainReport) -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            completed=report.step,
            description=f"epoch {report.epoch}",
            numbers=f"loss {report.loss:.3f}  accuracy {report.accuracy:.1%}  "
            f"{report.events_per_s / 1000:,.0f}k events/s",
        )

    def write(self, text: str) -> None:
        """Write a line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)
