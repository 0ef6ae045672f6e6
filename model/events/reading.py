"""What a reader of recordings is told of a file, and what it tells of it.

A reader is a function of a path and `ReadOptions` that returns an `Opened`. It reads
no more than the file's beginning before its chunks are asked for, unless it must look
for the geometry. What it meets beside events it counts in `Findings`, which are
complete once all chunks were read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

MOST_WARNINGS: Final = 20
MOST_TRIGGERS: Final = 100_000

Origin: TypeAlias = Literal["header", "camera", "given", "model", "guess"]
"""Where a geometry is from: the file's header, the name of the camera in it, the
caller, the model whose sensor holds all events, or the events' own bounds."""

WhenTruncated: TypeAlias = Literal["refuse", "read"]
"""Whether a file that ends early is an error, or is read up to there with a warning."""


@dataclass(frozen=True)
class ReadOptions:
    """What a caller says of a file that does not say it itself.

    Attributes:
        sensor: The geometry, where the file lacks it or has it wrong.
        model_sensor: The geometry to take where neither file nor caller has one, if it
            holds all events.
        chip: jAER's name of the camera's chip, for AEDAT 2.
        camera: The camera to read, where a container holds several: its name or topic.
        columns: The names of a table's columns, as `("x", "y", "t", "p")`.
        truncated: What to do where a file ends early.
    """

    sensor: Sensor | None = None
    model_sensor: Sensor | None = None
    chip: str | None = None
    camera: str | None = None
    columns: tuple[str, ...] | None = None
    truncated: WhenTruncated = "refuse"


class Trigger(NamedTuple):
    """An edge at a camera's trigger input; `t_us` counts as the events' does."""

    t_us: int
    channel: int
    rising: bool


@dataclass
class Findings:
    """What a reader met beside events.

    Attributes:
        skipped: Records that were left out, by kind, such as `APS frames`.
        warnings: In words, the first `MOST_WARNINGS`.
        triggers: The first `MOST_TRIGGERS`, in the file's order.
        wraps: How many wraps of the clock were undone.
        resets: How often the camera set its clock to 0; time goes on.
        start_us: The first event's timestamp as it is in the file, once it was read.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    wraps: int = 0
    resets: int = 0
    start_us: int | None = None

    def warn(self, text: str) -> None:
        """Add a warning, unless there are many."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(text)


@dataclass(frozen=True)
class Opened:
    """A file, opened by its format's reader.

    Attributes:
        sensor: The camera's geometry.
        origin: Where the geometry is from.
        chunks: Events in the file's order, each chunk of bounded size; to be iterated
            once. Iterating may raise `MalformedRecording`.
        cameras: The names of all cameras in the file, that which is read first.
        findings: What is met beside events.
        format: The format, for people; empty where the suffix says it.
    """

    sensor: Sensor
    origin: Origin
    chunks: Iterator[Events]
    cameras: tuple[str, ...] = ()
    findings: Findings = field(default_factory=Findings)
    format: str = ""


Opener: TypeAlias = Callable[[Path, ReadOptions], Opened]
"""A format's reader; raises `MalformedRecording` or `UnsupportedRecording`."""


def end_early(path: Path, where: str, options: ReadOptions, findings: Findings) -> None:
    """Refuse a file that ends early, or warn of it, as the caller chose.

    Args:
        path: The file.
        where: Where it ends, as `it ends inside an event`.
        options: Says what to do.
        findings: Receives the warning.

    Raises:
        MalformedRecording: Truncated files are refused.
    """
    if options.truncated == "refuse":
        raise MalformedRecording(path, f"truncated: {where}")
    findings.warn(f"truncated: {where}; read up to there")


def choose_camera(
    path: Path, names: Sequence[str], options: ReadOptions, findings: Findings
) -> int:
    """Choose which of a file's cameras is read: the caller's, or else the first.

    Args:
        path: The file.
        names: The cameras' names, in the file's order; at least one.
        options: Names a camera, whole or by a part that no other name has, or says
            its place, from 1.
        findings: Receives a warning where there are others and the caller named none.

    Returns:
        The camera's index in `names`.

    Raises:
        UnsupportedRecording: No camera has the name, or several have.
    """
    wanted = options.camera
    if wanted is None:
        if len(names) > 1:
            rest = ", ".join(names[1:])
            findings.warn(f"camera {names[0]} is read; the file also holds {rest}")
        return 0
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    alike = [i for i, name in enumerate(names) if wanted.lower() in name.lower()]
    if len(alike) != 1:
        which = "several cameras are" if alike else "no camera is"
        reason = f"{which} named {wanted}; it holds {', '.join(names)}"
        raise UnsupportedRecording(path, reason)
    return alike[0]
