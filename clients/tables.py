"""What the server answered, as aligned columns of text."""

from __future__ import annotations

from saccade.clients.http import Answer, Sample
from saccade.clients.wording import brief, columns, percent


def answer_table(answers: list[tuple[str, Answer]]) -> str:
    """Write answers as aligned columns."""
    rows: list[tuple[str, ...]] = [("file", "label", "confidence", "events")]
    for name, answer in answers:
        sure = "" if answer.confidence is None else percent(answer.confidence)
        rows.append((name, answer.label or "–", sure, f"{answer.events:,}"))
    return columns(rows, figures={2, 3})


def truth_table(answers: list[tuple[str, Answer]]) -> str:
    """Write what each scene showed, and what it was taken for."""
    rows: list[tuple[str, ...]] = [("truth", "label", "", "confidence", "events")]
    for truth, answer in answers:
        mark = "✓" if answer.label == truth else "≠"
        sure = "" if answer.confidence is None else percent(answer.confidence)
        rows.append((truth, answer.label or "–", mark, sure, f"{answer.events:,}"))
    return columns(rows, figures={3, 4})


def throughput_table(samples: list[Sample]) -> str:
    """Write what each model scored, and how fast while the device worked on it."""
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
