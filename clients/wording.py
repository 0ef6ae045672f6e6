"""Numbers and times as people read them."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def brief(count: float) -> str:
    """Write a count with three digits: 1234567 as `1.23 M`."""
    for size, prefix in PREFIXES:
        if count >= size * 0.9995:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.3g}" if count < 100 else f"{count:.0f}"


def clock(seconds: float) -> str:
    """Write a time of play: 75.31 as `1:15.3`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def milliseconds(value: float) -> str:
    """Write a duration: 3.14159 as `3.1 ms`."""
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def percent(part: float) -> str:
    """Write a part of one: 0.987 as `98.7 %`."""
    return f"{100 * part:.1f} %"


def columns(rows: list[tuple[str, ...]], figures: Container[int]) -> str:
    """Align rows of cells: those columns that hold figures to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in figures else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)
