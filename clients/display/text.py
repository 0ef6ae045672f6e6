"""Statistics, results and metrics as text: numbers, tables and a summary."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Final

from saccade.clients.display.statistics import Summary

if TYPE_CHECKING:  # httpx is no part of the base install
    from saccade.clients.http import Answer, Sample

PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def brief(count: float) -> str:
    """Return a count with three digits: 1234567 as `1.23 M`."""
    for size, prefix in PREFIXES:
        if count >= size * 0.9995:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.3g}" if count < 100 else f"{count:.0f}"


def clock(seconds: float) -> str:
    """Return a time of play, s: 75.31 as `1:15.3`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def milliseconds(value: float) -> str:
    """Return a duration, ms: 3.14159 as `3.1 ms`."""
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def percent(part: float) -> str:
    """Return a part of one: 0.987 as `98.7 %`."""
    return f"{100 * part:.1f} %"


def columns(rows: list[tuple[str, ...]], figures: Container[int]) -> str:
    """Return rows of cells as aligned columns; those of `figures` end at the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in figures else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def answer_table(answers: list[tuple[str, Answer]]) -> str:
    """Return the classification of each file as a table."""
    rows: list[tuple[str, ...]] = [("file", "label", "confidence", "events")]
    for name, answer in answers:
        rows.append((name, *_classification(answer), f"{answer.events:,}"))
    return columns(rows, figures={2, 3})


def truth_table(answers: list[tuple[str, Answer]]) -> str:
    """Return the true label and the classification of each scene as a table."""
    rows: list[tuple[str, ...]] = [("truth", "label", "", "confidence", "events")]
    for truth, answer in answers:
        mark = "✓" if answer.label == truth else "≠"
        label, confidence = _classification(answer)
        rows.append((truth, label, mark, confidence, f"{answer.events:,}"))
    return columns(rows, figures={3, 4})


def _classification(answer: Answer) -> tuple[str, str]:
    """Return the label and the confidence as text."""
    confidence = answer.confidence
    return answer.label or "–", "" if confidence is None else percent(confidence)


def throughput_table(samples: list[Sample]) -> str:
    """Return what each model scored, and how fast while the device worked."""
    found = {
        (sample.name.removeprefix("saccade_"), sample.labels.get("model")): sample.value
        for sample in samples
        if "le" not in sample.labels
    }
    rows: list[tuple[str, ...]] = [
        ("model", "sessions", "files", "events", "batches", "ms/batch", "events/s busy")
    ]
    for model in sorted({model for _, model in found if model}):
        events = found.get(("events_scored_total", model), 0.0)
        batches = found.get(("batches_total", model), 0.0)
        busy_s = found.get(("batch_seconds_sum", model), 0.0)
        rows.append(
            (
                model,
                f"{found.get(('sessions_total', model), 0.0):,.0f}",
                f"{found.get(('recordings_total', model), 0.0):,.0f}",
                f"{events:,.0f}",
                f"{batches:,.0f}",
                f"{1e3 * busy_s / batches:.2f}" if batches else "",
                brief(events / busy_s) if busy_s else "",
            )
        )
    return columns(rows, figures=range(1, 7))


def summary_lines(summary: Summary) -> list[tuple[str, str]]:
    """Return the summary of a stream as names and values."""
    s = summary
    sent = f"{s.events_sent:,} sent, {s.events_scored:,} scored"
    lines = [("label", _label(s)), ("events", f"{sent}, {s.events_pending:,} pending")]
    if s.events_refused or s.frames_refused:
        refused = f"{s.events_refused:,} events in {s.frames_refused:,} frames"
        lines.append(("refused", refused))
    if s.first_refusal is not None:
        lines.append(("first", s.first_refusal))
    if s.events_skipped:
        lines.append(("skipped", f"{s.events_skipped:,} invalid"))
    if s.events_dropped:
        lines.append(("dropped", f"{s.events_dropped:,} events, to keep up"))
    spans = f"{clock(s.stream_s)} of events in {clock(s.wall_s)}"
    lines.append(("rate", f"{brief(s.events_per_s)} events/s: {spans}"))
    if s.latency_p50_ms is not None and s.latency_p99_ms is not None:
        p50, p99 = milliseconds(s.latency_p50_ms), milliseconds(s.latency_p99_ms)
        lines.append(("latency", f"{p50} median, {p99} p99"))
    skipped = f", {s.results_skipped:,} skipped" if s.results_skipped else ""
    lines.append(("results", f"{s.results:,}{skipped}"))
    if s.agreement is not None:
        lines.append(("agreement", f"{percent(s.agreement)} of results"))
    return lines


def _label(summary: Summary) -> str:
    if summary.label is None or summary.confidence is None:
        return "none: too few events for a tick"
    return f"{summary.label}  {percent(summary.confidence)}"
