"""The command `saccade inspect`: say what a recording holds, without a server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.clients.commands.arguments import (
    add_reading_options,
    print_message,
    read_options,
)
from saccade.clients.commands.opening import ALL_CAMERAS
from saccade.clients.display.text import brief
from saccade.model.events.errors import EventsError, MalformedRecording
from saccade.model.events.inspection import MOST_HOT, US_PER_S, Inspection
from saccade.model.events.reading import MOST_TRIGGERS, Origin, ReadOptions
from saccade.model.events.recordings import Recording, open_recording

COMMAND: Final = "inspect"
BETWEEN_PIXELS: Final = 4
SHOWN_TRIGGERS: Final = 5
ORIGINS: Final[dict[Origin, str]] = {
    "header": "from the file's header",
    "camera": "from the camera that the file names",
    "given": "from the command line",
    "model": "from the model",
    "guess": "guessed from the events; --sensor WxH says it",
}

DESCRIPTION: Final = """\
Say what recordings hold: format, cameras, geometry and where it is known from, counts,
rates, triggers, the health of the timestamps, hot pixels. No server is needed.
"""
EPILOG: Final = """\
examples:
  saccade inspect drive.raw
  saccade inspect drive.raw --png drive.png
  saccade inspect *.aedat --camera all --json
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog=f"saccade {COMMAND}",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a recording")
    add_reading_options(parser)
    parser.add_argument(
        "--png",
        metavar="FILE",
        type=Path,
        help="draw all events, and how recent each pixel's newest is, side by side",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command, and return its exit status: 1 where a file cannot be read."""
    reports: list[dict[str, Any]] = []
    failed = False
    chosen = read_options(options)
    for name in options.files:
        try:
            reports += _inspect(Path(name), chosen, options, len(reports))
        except (EventsError, OSError) as error:
            failed = True
            reason = getattr(error, "reason", str(error))
            reports.append({"file": name, "error": reason})
            print_message(COMMAND, f"{name}: {reason}")
    if options.json:
        sys.stdout.write(json.dumps(reports, indent=2) + "\n")
    else:
        texts = [_text(report) for report in reports if "error" not in report]
        sys.stdout.write("\n".join(texts))
    return int(failed)


def _inspect(
    path: Path, chosen: ReadOptions, options: argparse.Namespace, place: int
) -> list[dict[str, Any]]:
    """Return the report of a file, or one for each of its cameras.

    `place` numbers the pictures of several recordings.
    """
    if not path.exists():
        raise MalformedRecording(path, "there is no such file")
    every = chosen.camera == ALL_CAMERAS
    cameras: Sequence[str | None] = [chosen.camera]
    if every:
        chosen = replace(chosen, camera=None)
        opened = open_recording(path, None, options.clock_bits, chosen)
        cameras = opened.cameras or [None]
    reports = []
    for number, camera in enumerate(cameras, place):
        one = replace(chosen, camera=camera)
        recording = open_recording(path, None, options.clock_bits, one)
        inspection = Inspection(recording.sensor)
        for events in recording.events:
            inspection.add(events)
        if options.png:
            _draw(inspection, _numbered(options.png, number))
        reports.append(_report(path, recording, inspection))
    return reports


def _numbered(path: Path, number: int) -> Path:
    """Return the picture's path; from the second on, it ends in a number."""
    return path.with_stem(f"{path.stem}-{number + 1}") if number else path


def _draw(inspection: Inspection, path: Path) -> None:
    """Write the two images side by side. Needs the package Pillow."""
    from PIL import Image

    left, right = inspection.accumulated(), inspection.time_surface()
    between = np.full((left.shape[0], BETWEEN_PIXELS), 255, np.uint8)
    Image.fromarray(np.hstack([left, between, right])).save(path, "PNG")


def _report(path: Path, recording: Recording, found: Inspection) -> dict[str, Any]:
    findings, timing, hot = recording.findings, found.timing, found.hot_pixels()
    seconds = found.duration_us / US_PER_S
    return {
        "file": str(path),
        "format": recording.format or path.suffix.lstrip("."),
        "cameras": list(recording.cameras),
        "sensor": [recording.sensor.width, recording.sensor.height],
        "sensor_from": recording.origin,
        "events": found.events,
        "on_events": found.on,
        "outside": found.outside,
        "start_us": findings.start_us,
        "duration_us": found.duration_us,
        "events_per_s": round(found.rate, 1),
        "peak_events_per_s": round(found.peak_rate, 1),
        "active_pixels": found.active_pixels,
        "triggers": len(findings.triggers),
        "first_triggers": [t._asdict() for t in findings.triggers[:SHOWN_TRIGGERS]],
        "timing": {
            **timing._asdict(),
            "wraps": findings.wraps,
            "resets": findings.resets,
        },
        "hot_pixels": [
            {**p._asdict(), "events_per_s": round(p.events / seconds, 1)}
            for p in hot[:MOST_HOT]
            if seconds
        ],
        "hot_pixels_in_all": len(hot),
        "skipped": dict(findings.skipped),
        "warnings": findings.warnings,
    }


def _text(report: dict[str, Any]) -> str:
    """Return a report as lines of names and values."""
    width, height = report["sensor"]
    on = report["on_events"] / max(report["events"], 1)
    rates = brief(report["events_per_s"]), brief(report["peak_events_per_s"])
    lines = [
        ("file", report["file"]),
        ("format", report["format"]),
        ("cameras", ", ".join(report["cameras"])),
        ("sensor", f"{width}x{height}, {ORIGINS[report['sensor_from']]}"),
        ("events", f"{report['events']:,}, {on:.1%} of them ON"),
        ("outside", f"{report['outside']:,} events" if report["outside"] else ""),
        ("duration", f"{report['duration_us'] / US_PER_S:.6f} s"),
        ("starts at", f"{report['start_us']:,} µs of the file's clock"),
        ("rate", f"{rates[0]} events/s, {rates[1]} at the peak (10 ms)"),
        ("pixels", _pixels(report)),
        ("triggers", _triggers(report["triggers"])),
        ("timing", _timing(report["timing"])),
        *(("hot pixel", _hot(pixel)) for pixel in report["hot_pixels"]),
        *(("skipped", f"{n:,} {kind}") for kind, n in report["skipped"].items()),
        *(("warning", warning) for warning in report["warnings"]),
    ]
    return "".join(f"{name:<10} {value}\n" for name, value in lines if value)


def _triggers(count: int) -> str:
    more = " or more" if count == MOST_TRIGGERS else ""
    return f"{count:,}{more}" if count else ""


def _pixels(report: dict[str, Any]) -> str:
    width, height = report["sensor"]
    active, hot = report["active_pixels"], report["hot_pixels_in_all"]
    return f"{active:,} of {width * height:,} active, {hot:,} hot"


def _timing(timing: dict[str, Any]) -> str:
    parts = []
    if timing["steps_back"]:
        largest = timing["largest_step_back_us"]
        parts.append(f"{timing['steps_back']:,} steps back, by {largest:,} µs at most")
    if timing["clock_bits"]:
        parts.append(f"as a clock of {timing['clock_bits']} bits (--clock-bits)")
    if timing["wraps"]:
        parts.append(f"{timing['wraps']:,} wraps undone")
    if timing["resets"]:
        parts.append(f"{timing['resets']:,} resets undone")
    if timing["gaps"]:
        longest = timing["longest_gap_us"] / US_PER_S
        parts.append(f"{timing['gaps']:,} gaps, the longest of {longest:.3f} s")
    return ", ".join(parts) or "in order, without gaps"


def _hot(pixel: dict[str, Any]) -> str:
    rate = brief(pixel["events_per_s"])
    return f"({pixel['x']}, {pixel['y']}) with {pixel['events']:,} events, {rate}/s"
