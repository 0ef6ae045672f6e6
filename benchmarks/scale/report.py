"""The model's answers as tables, as JSON and as plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.scale.scenarios import Carrier, Moved, Period, Sizing
from benchmarks.scale.validation import MOST_ERROR, Comparison

DOTS_PER_INCH: Final = 120
SIZE: Final = (7.0, 4.0)


class Answers(NamedTuple):
    """Everything that a run of the model answers.

    Attributes:
        seed: The seed of all draws.
        carriers: What one replica carries.
        sizings: Replicas for so many sensors.
        losses: Loss of a zone.
        rolls: Rolling updates.
        periods: Snapshot periods.
    """

    seed: int
    carriers: list[Carrier]
    sizings: list[Sizing]
    losses: list[Moved]
    rolls: list[Moved]
    periods: list[Period]

    def to_json(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "seed": self.seed,
            **{name: [one._asdict() for one in getattr(self, name)] for name in _LISTS},
        }


_LISTS: Final = ("carriers", "sizings", "losses", "rolls", "periods")
_TITLES: Final = {
    "carriers": "what one replica carries",
    "sizings": "replicas and Redis servers",
    "losses": "loss of a zone, s",
    "rolls": "a rolling update, s",
    "periods": "the snapshot period",
}


def tables(answers: Answers) -> list[Table]:
    """Return one table a question."""
    return [_table(_TITLES[name], getattr(answers, name)) for name in _LISTS]


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Return predictions beside measurements."""
    table = Table(title="p50, measured and predicted")
    for heading in ("load", "measured ms", "predicted ms", "error", ""):
        table.add_column(heading, justify="left" if heading == "load" else "right")
    for one in found:
        verdict = "within" if abs(one.error) <= MOST_ERROR else "beyond"
        table.add_row(
            one.load,
            f"{one.measured_ms:.2f}",
            f"{one.predicted_ms:.2f}",
            f"{one.error:+.0%}",
            "fitted" if one.fitted else f"{verdict} {MOST_ERROR:.0%}",
        )
    return table


def _table(title: str, rows: Sequence[Any]) -> Table:
    table = Table(title=title)
    for name in rows[0]._fields:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    return table


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def plot(answers: Answers, folder: Path) -> list[Path]:
    """Draw the answers into a folder; return the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "replicas.png": _draw_sizings(answers.sizings),
        "zone.png": _draw_moves(answers.losses, "loss of a zone"),
        "snapshots.png": _draw_periods(answers.periods),
    }
    for name, figure in pictures.items():
        figure.savefig(folder / name, dpi=DOTS_PER_INCH)
    return [folder / name for name in pictures]


def _draw_sizings(rows: Sequence[Sizing]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    for carrier in dict.fromkeys(row.carrier for row in rows):
        chosen = [row for row in rows if row.carrier == carrier]
        sensors = [row.sensors for row in chosen]
        axes.loglog(sensors, [row.with_zones for row in chosen], "o-", label=carrier)
    axes.set(xlabel="sensors", ylabel="replicas, one of three zones may fail")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _draw_moves(rows: Sequence[Moved], title: str) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    names = [row.scenario for row in rows]
    for label, values in (
        ("first new result, p99", [row.first_p99_s for row in rows]),
        ("first new result, p50", [row.first_p50_s for row in rows]),
    ):
        axes.barh(names, values, label=label)
    axes.set(xlabel="s since the loss", title=title)
    axes.legend()
    return figure


def _draw_periods(rows: Sequence[Period]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    periods = [row.snapshot_s for row in rows]
    axes.semilogx(periods, [row.first_p99_s for row in rows], "o-", color="C3")
    axes.set(xlabel="snapshot period, s", ylabel="first new result, p99, s")
    axes.set_xticks(periods, [f"{period:g}" for period in periods])
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.plot(periods, [row.saves_per_s for row in rows], "s--", color="C0")
    other.set(ylabel="snapshots a second (dashed)")
    other.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return figure
