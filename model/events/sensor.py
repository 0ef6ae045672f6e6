"""A sensor's geometry: width, height and number of polarities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sensor:
    """A sensor's geometry; a cochlea has height 1 and one polarity.

    Raises:
        ValueError: A side or the number of polarities is out of range.
    """

    width: int
    height: int
    polarities: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if not 1 <= getattr(self, name) <= 65536:
                raise ValueError(f"sensor {name} {getattr(self, name)} not in 1..65536")
        if self.polarities not in {1, 2}:
            raise ValueError(f"a sensor has 1 or 2 polarities, not {self.polarities}")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    def to_list(self) -> list[int]:
        """Return `[width, height]`, or `[width, height, 1]` for one polarity."""
        sides = [self.width, self.height]
        return sides if self.polarities == 2 else [*sides, self.polarities]

    @classmethod
    def from_list(cls, sides: Sequence[int]) -> Sensor:
        """Build from `[width, height]` or `[width, height, polarities]`.

        Raises:
            ValueError: `sides` has another length, or holds something else than
                integers in range.
        """
        if len(sides) not in {2, 3} or not all(type(side) is int for side in sides):
            raise ValueError(
                f"{sides!r} is not [width, height] or [width, height, polarities]"
            )
        return cls(*sides)
