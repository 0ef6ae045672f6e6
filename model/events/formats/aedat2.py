"""jAER's AEDAT 2 files: a text header, then eight big-endian bytes an event.

    u32  address      of the pixel, laid out as the chip's class in jAER has it
    u32  t_us         wraps

The header's line `# AEChip: …` names the chip; older files of the DVS128 have none.
The format puts the origin in the lower left corner; events here have it in the upper
left. Addresses of anything but a change of brightness (frames, triggers) are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import Unwrapper
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events

CHUNK_EVENTS: Final = 1 << 16
RECORD_BYTES: Final = 8
TIME_BITS: Final = 32
MAX_LINE_BYTES: Final = 1 << 16
CHIP: Final = "# AEChip:"

Addresses = npt.NDArray[np.uint32]


class Layout(NamedTuple):
    """Where an address holds what; `other` marks what is no change of brightness."""

    x_shift: int
    x_bits: int
    y_shift: int
    y_bits: int
    p_shift: int
    other: int


DVS: Final = Layout(1, 7, 8, 7, 0, other=0xFFFF8000)
DAVIS: Final = Layout(12, 10, 22, 9, 11, other=1 << 31 | 1 << 10)
CHIPS: Final = {
    "DVS128": (Sensor(128, 128), DVS),
    "DAVIS208": (Sensor(208, 192), DAVIS),
    "DAVIS240": (Sensor(240, 180), DAVIS),
    "DAVIS346": (Sensor(346, 260), DAVIS),
    "DAVIS640": (Sensor(640, 480), DAVIS),
}
"""The chips that are known, by the beginning of their class's name."""


def open_file(path: Path, sensor: Sensor | None) -> tuple[Sensor, Iterator[Events]]:
    """Open an AEDAT 2 file.

    Raises:
        MalformedRecording: The file ends inside an event.
        UnsupportedRecording: The chip is none of CHIPS.
    """
    with path.open("rb") as file:
        chip = _chip(file)
        begin = file.tell()
    known = next((name for name in CHIPS if chip.upper().startswith(name)), None)
    if known is None:
        raise UnsupportedRecording(path, f"chip {chip}; {', '.join(CHIPS)} are read")
    if (path.stat().st_size - begin) % RECORD_BYTES:
        raise MalformedRecording(path, "truncated: it ends inside an event")
    own, layout = CHIPS[known]
    return sensor or own, _decoded(path, begin, layout, own.height)


def _chip(file: BinaryIO) -> str:
    """Read the header, and leave the file at its first event."""
    chip = "DVS128"
    while True:
        begin = file.tell()
        line = file.readline(MAX_LINE_BYTES)
        if not line.startswith(b"#") or not line.endswith(b"\n"):
            file.seek(begin)
            return chip
        text = line.decode("latin-1").strip()
        if text.startswith(CHIP):
            chip = text.removeprefix(CHIP).strip().rpartition(".")[2]


def _decoded(path: Path, begin: int, layout: Layout, height: int) -> Iterator[Events]:
    unwrapper = Unwrapper(TIME_BITS)
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(CHUNK_EVENTS * RECORD_BYTES):
            words = np.frombuffer(data, ">u4").reshape(-1, 2).astype(np.uint32)
            t_us = unwrapper.unwrap(words[:, 1])
            change = (words[:, 0] & np.uint32(layout.other)) == 0
            yield _events(words[change, 0], t_us[change], layout, height)


def _events(
    address: Addresses, t_us: npt.NDArray[np.int64], layout: Layout, height: int
) -> Events:
    events = np.empty(address.size, EVENT_DTYPE)
    y = address >> layout.y_shift & (1 << layout.y_bits) - 1
    events["t"] = t_us
    events["x"] = address >> layout.x_shift & (1 << layout.x_bits) - 1
    # A row beyond the sensor wraps to a number that `checks.check` refuses.
    events["y"] = (height - 1 - y.astype(np.int64)) & 0xFFFF
    events["p"] = address >> layout.p_shift & 1
    return events
