"""Reader of AEDAT 2, jAER's files: a text header, then eight big-endian bytes an event.

    u32  address      the pixel, in the layout of the chip's class in jAER
    u32  t_us         wraps

The header's line `# AEChip: …` names the chip. Files without it (of v2e, of MATLAB
scripts, of early recordings) have the chip that the caller names, or else the one whose
layout the addresses fit. The header ends at jAER's line `#End Of ASCII Header`, or at
the first line that is no comment.

An event is where jAER shows it, with the origin in the upper left corner. Records of
anything but a change of brightness (frames, inertial samples, triggers) are skipped and
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import Unwrapper
from saccade.model.events.errors import UnsupportedRecording
from saccade.model.events.formats.jaer_chips import CHIPS, Chip, find_chip, guess_chip
from saccade.model.events.geometry import choose_sensor
from saccade.model.events.reading import (
    Findings,
    Opened,
    Origin,
    ReadOptions,
    choose_camera,
    end_early,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

CHUNK_EVENTS: Final = 1 << 16
RECORD_BYTES: Final = 8
TIME_BITS: Final = 32
MAX_LINE_BYTES: Final = 1 << 16
CHIP_LINE: Final = "# AEChip:"
END_OF_HEADER: Final = "#End Of ASCII Header"
MOST_UNLIKE: Final = 0.9
"""The share of addresses that a named chip cannot have from which on it is another."""

Words = npt.NDArray[np.uint32]


class Header(NamedTuple):
    """The chip's name, None where the header has none, and the first event's place."""

    chip: str | None
    begin: int


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an AEDAT 2 file.

    Raises:
        MalformedRecording: The file ends inside an event.
        UnsupportedRecording: The chip is none of CHIPS, or nearly no address is its;
            or the camera is not the caller's.
    """
    with path.open("rb") as file:
        header = _header(file)
    findings = Findings()
    if (path.stat().st_size - header.begin) % RECORD_BYTES:
        end_early(path, "it ends inside an event", options, findings)
    chip, origin = _chip(path, header, options, findings)
    choose_camera(path, [chip.name], options, findings)
    scan = partial(_decoded, path, header.begin, chip)
    known = chip.sensor, origin
    if origin == "camera":
        known = choose_sensor(options, findings, lambda: scan(Findings()), known)
    return Opened(*known, scan(findings), (chip.name,), findings, "AEDAT 2 (jAER)")


def _header(file: BinaryIO) -> Header:
    chip = None
    while True:
        begin = file.tell()
        line = file.readline(MAX_LINE_BYTES)
        if not _is_comment(line):
            return Header(chip, begin)
        text = line.decode("latin-1").strip()
        if text == END_OF_HEADER:
            return Header(chip, file.tell())
        if text.startswith(CHIP_LINE):
            chip = text.removeprefix(CHIP_LINE).strip().rpartition(".")[2]


def _is_comment(line: bytes) -> bool:
    """Return whether a line is text; an event's first byte may be a # as well."""
    whole = line.startswith(b"#") and line.endswith(b"\n")
    return whole and all(byte >= ord(" ") or byte in b"\t\r\n" for byte in line)


def _chip(
    path: Path, header: Header, options: ReadOptions, findings: Findings
) -> tuple[Chip, Origin]:
    """Return the chip that the caller, the header or the addresses name."""
    named = options.chip or header.chip
    if named is None:
        return _unnamed(path, header.begin, options, findings)
    chip = find_chip(named)
    if chip is None:
        raise UnsupportedRecording(path, f"chip {named}; {_known()} are read")
    address = next(_addresses(path, header.begin), np.empty(0, np.uint32))
    changes, foreign = chip.weigh(address)
    if foreign > MOST_UNLIKE * changes:
        share = f"{foreign / changes:.0%}"
        reason = f"{share} of its events have no address of a {chip.name}"
        raise UnsupportedRecording(path, f"{reason}; its chip is another")
    return chip, "given" if options.chip else "camera"


def _unnamed(
    path: Path, begin: int, options: ReadOptions, findings: Findings
) -> tuple[Chip, Origin]:
    """Guess the chip of a file that names none, of a known geometry if it can be."""
    hints: list[tuple[Sensor | None, Origin]] = [(options.sensor, "given")]
    if options.sensor is None:
        hints = [(options.model_sensor, "model"), (None, "guess")]
    for sensor, origin in hints:
        chip = guess_chip(_addresses(path, begin), sensor)
        if chip is not None:
            text = f"its header names no chip; the addresses are like a {chip.name}'s"
            findings.warn(text)
            return chip, origin if sensor else "guess"
    of = f" of {options.sensor}" if options.sensor else ""
    reason = f"its header names no chip, and the addresses are like no chip's{of}"
    raise UnsupportedRecording(path, f"{reason}; name it: {_known()}")


def _known() -> str:
    return ", ".join(chip.name for chip in CHIPS)


def _records(path: Path, begin: int) -> Iterator[Words]:
    """Yield the file's whole records in chunks, (n, 2): address and time."""
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(CHUNK_EVENTS * RECORD_BYTES):
            whole = len(data) - len(data) % RECORD_BYTES
            yield np.frombuffer(data[:whole], ">u4").reshape(-1, 2).astype(np.uint32)


def _addresses(path: Path, begin: int) -> Iterator[Words]:
    return (words[:, 0] for words in _records(path, begin))


def _decoded(
    path: Path, begin: int, chip: Chip, findings: Findings
) -> Iterator[Events]:
    unwrapper = Unwrapper(TIME_BITS)
    for words in _records(path, begin):
        t_us = unwrapper.unwrap(words[:, 1])
        change, skipped = chip.layout.sort_out(words[:, 0])
        findings.skipped.update(Counter(skipped))
        findings.wraps = unwrapper.wraps
        yield _events(words[change, 0], t_us[change], chip)


def _events(address: Words, t_us: npt.NDArray[np.int64], chip: Chip) -> Events:
    layout, sensor = chip.layout, chip.sensor
    events = np.empty(address.size, EVENT_DTYPE)
    x, y = layout.pixels(address)
    # A pixel beyond the sensor wraps to a number that `types.check` refuses.
    events["t"] = t_us
    events["x"] = (sensor.width - 1 - x) & 0xFFFF if layout.mirrored_x else x
    events["y"] = (sensor.height - 1 - y) & 0xFFFF if layout.mirrored_y else y
    events["p"] = layout.polarity(address)
    return events
