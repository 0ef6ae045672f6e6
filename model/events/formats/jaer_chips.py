"""The chips of jAER's recordings: geometry, and where an address has its bits.

Source:
    The event extractors of jAER's chip classes, github.com/SensorsINI/jaer; for files
    without a chip's name, the writers of github.com/SensorsINI/v2e.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from saccade.model.events.sensor import Sensor

Addresses = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Kind(NamedTuple):
    """Records that are no change of brightness: their bits under `mask` are `value`.

    Where `value` is 0, they have any bit of `mask`.
    """

    name: str
    mask: int
    value: int = 0

    def holds(self, address: Addresses) -> Mask:
        """Return which records are of this kind."""
        bits = address & np.uint32(self.mask)
        held: Mask = bits == np.uint32(self.value) if self.value else bits != 0
        return held


class Layout(NamedTuple):
    """The bits of an address.

    Attributes:
        x: Shift and number of bits of x.
        y: Shift and number of bits of y.
        p_shift: Shift of the polarity.
        kinds: What else a record may be, the first that applies.
        unused: Bits that are 0 wherever the record is a change of brightness.
        inverted: Whether an OFF event has polarity 1.
        mirrored_x: Whether x counts from the right, as jAER shows it.
        mirrored_y: Whether y counts from below.
    """

    x: tuple[int, int]
    y: tuple[int, int]
    p_shift: int
    kinds: tuple[Kind, ...]
    unused: int
    inverted: bool = False
    mirrored_x: bool = True
    mirrored_y: bool = True

    def pixels(self, address: Addresses) -> tuple[Places, Places]:
        """Return x and y as they are in the address, each (n,)."""
        (x_shift, x_bits), (y_shift, y_bits) = self.x, self.y
        x = (address >> x_shift & (1 << x_bits) - 1).astype(np.int64)
        y = (address >> y_shift & (1 << y_bits) - 1).astype(np.int64)
        return x, y

    def polarity(self, address: Addresses) -> Addresses:
        """Return 1 for ON and 0 for OFF, (n,)."""
        raw = address >> np.uint32(self.p_shift) & np.uint32(1)
        return raw ^ np.uint32(self.inverted)

    def sort_out(self, address: Addresses) -> tuple[Mask, dict[str, int]]:
        """Return which records are changes of brightness, and how many others are."""
        change, counts = np.ones(address.shape, np.bool_), {}
        for kind in self.kinds:
            found = change & kind.holds(address)
            change &= ~found
            if found.any():
                counts[kind.name] = int(np.count_nonzero(found))
        return change, counts


FRAMES_AND_MORE: Final = (
    Kind("inertial samples", 0x8000_0C00, 0x8000_0C00),
    Kind("frame samples", 1 << 31),
    Kind("external events", 1 << 10),
)
UNKNOWN: Final = "unknown addresses"

DVS128: Final = Layout(
    (1, 7),
    (8, 7),
    0,
    (Kind("external events", 1 << 31 | 1 << 15), Kind(UNKNOWN, 0x7FFF_0000)),
    unused=0xFFFF_8000,
    inverted=True,
)
DVS640: Final = Layout(
    (1, 10), (11, 10), 0, (Kind(UNKNOWN, 0xFFE0_0000),), unused=0xFFE0_0000
)
DVS1280: Final = Layout(
    (1, 11), (12, 10), 0, (Kind(UNKNOWN, 0xFFC0_0000),), unused=0xFFC0_0000
)
DAVIS: Final = Layout((12, 10), (22, 9), 11, FRAMES_AND_MORE, unused=0x3FF)
DVXPLORER: Final = DAVIS._replace(mirrored_x=False, mirrored_y=False)


class Chip(NamedTuple):
    """A chip of jAER: its name, geometry and layout of addresses."""

    name: str
    sensor: Sensor
    layout: Layout

    def weigh(self, address: Addresses) -> tuple[int, int]:
        """Count the records that seem changes of brightness, and those it cannot write.

        Returns:
            How many are of no other kind; how many of these have a bit or a place that
            the chip has not.
        """
        layout = self.layout
        change, _ = layout.sort_out(address)
        x, y = layout.pixels(address)
        outside = (x >= self.sensor.width) | (y >= self.sensor.height)
        foreign = change & (outside | (address & np.uint32(layout.unused) != 0))
        for kind in layout.kinds:
            if kind.name == UNKNOWN:
                foreign |= kind.holds(address)
        return int(np.count_nonzero(change | foreign)), int(np.count_nonzero(foreign))


CHIPS: Final = (
    Chip("DVS128", Sensor(128, 128), DVS128),
    Chip("DAVIS240", Sensor(240, 180), DAVIS),
    Chip("DAVIS346", Sensor(346, 260), DAVIS),
    Chip("DVS640", Sensor(640, 480), DVS640),
    Chip("DAVIS640", Sensor(640, 480), DAVIS),
    Chip("DVS1280x720", Sensor(1280, 720), DVS1280),
    Chip("DAVIS128", Sensor(128, 128), DAVIS),
    Chip("DAVIS208", Sensor(208, 192), DAVIS),
    Chip("DVXplorer", Sensor(640, 480), DVXPLORER),
)
"""All known chips; files without a chip's name are tried in this order."""

UNNAMED: Final = CHIPS[:6]
"""Whose files may lack the chip's name."""

OTHER_NAMES: Final = {
    "TMPDIFF128": "DVS128",
    "DVS240": "DAVIS240",
    "SBRET": "DAVIS240",
    "DVS1280": "DVS1280x720",
}
"""Beginnings of jAER's names for the same chips, in upper case."""

STRAY: Final = 0.001
"""The share of foreign records that a file's own chip may have, by broken records."""
MOST_FOREIGN: Final = 0.1
"""The share from which on a file is not guessed to be a chip's."""


def find_chip(name: str) -> Chip | None:
    """Return the chip that a name begins with, as DAVIS240 for DAVIS240C, or None.

    A pair of cameras, which jAER merges into one file, is none.
    """
    upper = name.upper()
    if "STEREO" in upper:
        return None
    for begin, same in OTHER_NAMES.items():
        upper = same.upper() if upper.startswith(begin) else upper
    alike = [chip for chip in CHIPS if upper.startswith(chip.name.upper())]
    return max(alike, key=lambda chip: len(chip.name), default=None)


def guess_chip(chunks: Iterable[Addresses], sensor: Sensor | None) -> Chip | None:
    """Return the chip that a file's addresses fit best.

    Args:
        chunks: The addresses of all records.
        sensor: The geometry, where it is known.

    Returns:
        The chip; None where no chip's addresses are like these.
    """
    candidates = [chip for chip in UNNAMED if sensor in (None, chip.sensor)]
    if not candidates:
        return None
    weights = np.zeros((len(candidates), 2))
    for address in chunks:
        weights += [chip.weigh(address) for chip in candidates]
    shares = np.maximum(weights[:, 1] / np.maximum(weights[:, 0], 1), STRAY)
    likely = candidates[int(shares.argmin())]
    return likely if shares.min() <= MOST_FOREIGN else None
