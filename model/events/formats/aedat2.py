"""Reader of AEDAT 2, jAER's files: a text header, then eight big-endian bytes an event.

    u32  address      the pixel, in the layout of the chip's class in jAER
    u32  t_us         wraps

The header's line `# AEChip: …` names the chip; older files of the DVS128 lack the line.
The format's origin is the lower left corner; here an event's origin is the upper left.
Addresses of anything but a change of brightness (frames, triggers) are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.clock import Unwrapper
from saccade.model.events.errors import MalformedRecording, UnsupportedRecording
from saccade.model.events.geometry import CAMERAS, choose_sensor, find_camera
from saccade.model.events.reading import Findings, Opened, ReadOptions
from saccade.model.events.types import EVENT_DTYPE, Events

CHUNK_EVENTS: Final = 1 << 16
RECORD_BYTES: Final = 8
TIME_BITS: Final = 32
MAX_LINE_BYTES: Final = 1 << 16
CHIP: Final = "# AEChip:"

Addresses = npt.NDArray[np.uint32]


class Layout(NamedTuple):
    """The bits of an address; those of `other` mark no change of brightness."""

    x_shift: int
    x_bits: int
    y_shift: int
    y_bits: int
    p_shift: int
    other: int


DVS: Final = Layout(1, 7, 8, 7, 0, other=0xFFFF8000)
DAVIS: Final = Layout(12, 10, 22, 9, 11, other=1 << 31 | 1 << 10)


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open an AEDAT 2 file.

    Raises:
        MalformedRecording: The file ends inside an event.
        UnsupportedRecording: The chip is none of CAMERAS.
    """
    with path.open("rb") as file:
        chip = _chip(file)
        begin = file.tell()
    camera = find_camera(chip)
    if camera is None:
        raise UnsupportedRecording(path, f"chip {chip}; {', '.join(CAMERAS)} are read")
    if (path.stat().st_size - begin) % RECORD_BYTES:
        raise MalformedRecording(path, "truncated: it ends inside an event")
    own, layout = CAMERAS[camera], DVS if camera == "DVS128" else DAVIS
    scan = partial(_decoded, path, begin, layout, own.height)
    findings = Findings()
    sensor, origin = choose_sensor(options, findings, scan, (own, "camera"))
    return Opened(sensor, origin, scan(), (chip,), findings)


def _chip(file: BinaryIO) -> str:
    """Read the header, leave the file at its first event, return the chip's name."""
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
    # A row beyond the sensor wraps to a number that `types.check` refuses.
    events["y"] = (height - 1 - y.astype(np.int64)) & 0xFFFF
    events["p"] = address >> layout.p_shift & 1
    return events
