"""Recordings that a camera's software has split into several files, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.geometry import holds
from saccade.model.events.reading import Findings, Opened, Origin, ReadOptions
from saccade.model.events.recordings import Recording, open_stored, rebased
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events


def open_split(
    paths: Sequence[Path],
    options: ReadOptions = ReadOptions(),  # noqa: B008 (it is frozen)
    clock_bits: int | None = None,
) -> Recording:
    """Open files as one recording, each of which continues the one before.

    Where a file's clock goes on from the one before, the pause between them is kept;
    where it begins anew, time goes on at the newest event.

    Args:
        paths: The files, in order, at least one.
        options: What the caller says of all of them.
        clock_bits: Of every file's clock; see `open_recording`.

    Raises:
        MalformedRecording: A file is missing, empty or truncated.
        UnsupportedRecording: No reader is there for a format, or the files have
            different sensors.
    """
    files = [open_stored(path, options, clock_bits) for path in paths]
    sensor, origin = _sensor(paths, files)
    findings = Findings()
    chunks = _joined(paths, files, findings)
    first = files[0]
    opened = Opened(sensor, origin, chunks, first.cameras, findings, first.format)
    return rebased(paths[0], opened)


def _sensor(paths: Sequence[Path], files: Sequence[Opened]) -> tuple[Sensor, Origin]:
    """Return the sensor that the files agree upon, or the bounds of all events."""
    named = [(path, f) for path, f in zip(paths, files, strict=True) if not _guess(f)]
    sides = [(f.sensor.width, f.sensor.height) for f in files]
    bounds = Sensor(*map(max, zip(*sides, strict=True)))
    if not named:
        return bounds, "guess"
    first = named[0][1]
    for path, file in zip(paths, files, strict=True):
        differs = file.sensor != first.sensor
        if differs and not (_guess(file) and holds(first.sensor, file.sensor)):
            reason = f"its sensor is {file.sensor}, the other files' {first.sensor}"
            raise UnsupportedRecording(path, reason)
    return first.sensor, first.origin


def _guess(file: Opened) -> bool:
    return file.origin == "guess"


def _joined(
    paths: Sequence[Path], files: Sequence[Opened], findings: Findings
) -> Iterator[Events]:
    newest_us: int | None = None
    for path, file in zip(paths, files, strict=True):
        offset_us, found = None, 0
        for events in _read(path, file):
            if not events.size:
                continue
            if offset_us is None:
                offset_us = _offset_us(path, newest_us, int(events["t"][0]), findings)
            events["t"] += offset_us
            newest_us = int(events["t"][-1])
            found = _take_triggers(file, found, offset_us, findings)
            yield events
        _take_triggers(file, found, offset_us or 0, findings)
        findings.skipped.update(file.findings.skipped)
        findings.wraps += file.findings.wraps
        findings.resets += file.findings.resets
        for warning in file.findings.warnings:
            findings.warn(f"{path.name}: {warning}")


def _read(path: Path, file: Opened) -> Iterator[Events]:
    try:
        yield from file.chunks
    except OSError as error:
        raise MalformedRecording(path, error.strerror or str(error)) from error


def _offset_us(
    path: Path, newest_us: int | None, first_us: int, findings: Findings
) -> int:
    """Return what is added to a file's timestamps, so that they continue the others'.

    Args:
        path: The file.
        newest_us: The newest timestamp of the files before; None before any.
        first_us: The file's first timestamp.
        findings: Receives a warning where its clock begins anew.
    """
    if newest_us is None or first_us >= newest_us:
        return 0
    findings.warn(f"{path.name}: its clock begins anew; time goes on without a pause")
    return newest_us - first_us


def _take_triggers(file: Opened, begin: int, offset_us: int, findings: Findings) -> int:
    """Take over a file's triggers from `begin` on; return how many it has."""
    triggers = file.findings.triggers
    findings.triggers += [
        trigger._replace(t_us=trigger.t_us + offset_us) for trigger in triggers[begin:]
    ]
    return len(triggers)
