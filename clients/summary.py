"""The end of a stream in words."""

from __future__ import annotations

from saccade.clients.tally import Summary
from saccade.clients.wording import brief, clock, milliseconds, percent


def summary_lines(summary: Summary) -> list[tuple[str, str]]:
    """Return what to say of a stream that has ended, as names and values."""
    lines = [("label", _label(summary)), ("events", _events(summary))]
    if summary.events_refused or summary.frames_refused:
        lines.append(
            (
                "refused",
                f"{summary.events_refused:,} events in "
                f"{summary.frames_refused:,} frames",
            )
        )
    if summary.events_dropped:
        dropped = f"{summary.events_dropped:,} events, to keep up"
        lines.append(("dropped", dropped))
    lines.append(
        (
            "rate",
            f"{brief(summary.events_per_s)} events/s: {clock(summary.stream_s)} "
            f"of events in {clock(summary.wall_s)}",
        )
    )
    if summary.latency_p50_ms is not None and summary.latency_p99_ms is not None:
        lines.append(
            (
                "latency",
                f"{milliseconds(summary.latency_p50_ms)} median, "
                f"{milliseconds(summary.latency_p99_ms)} p99",
            )
        )
    lines.append(("results", _results(summary)))
    if summary.agreement is not None:
        lines.append(("agreement", f"{percent(summary.agreement)} of results"))
    return lines


def _label(summary: Summary) -> str:
    if summary.label is None or summary.confidence is None:
        return "none: too few events for a tick"
    return f"{summary.label}  {percent(summary.confidence)}"


def _events(summary: Summary) -> str:
    return (
        f"{summary.events_sent:,} sent, {summary.events_scored:,} scored, "
        f"{summary.events_pending:,} pending"
    )


def _results(summary: Summary) -> str:
    skipped = summary.results_skipped
    return f"{summary.results:,}" + (f", {skipped:,} skipped" if skipped else "")
