"""What an error may repeat of what a client sent: little, and as valid text."""

from __future__ import annotations

import math
from typing import Any, Final

from saccade.model.events.types import Sensor
from saccade.server.protocol.messages import Fact

QUOTED_CHARACTERS: Final = 80
MESSAGE_CHARACTERS: Final = 600


def quotable(value: Any) -> Fact | None:
    """Shrink any parsed value to one that an error can quote."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else clip(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, (bytes, list, dict)):
        return f"{type(value).__name__} of length {len(value)}"
    return type(value).__name__


def clip(text: str, characters: int = QUOTED_CHARACTERS) -> str:
    """Cut a text, and make it valid UTF-8: JSON lets lone surrogates through."""
    short = text if len(text) <= characters else text[: characters - 1] + "…"
    return short.encode("utf-8", "backslashreplace").decode("utf-8")


def describe(sensor: Sensor) -> str:
    """Write a sensor's sides, and its polarities where they are not two."""
    return str(sensor) if sensor.polarities == 2 else f"{sensor} of one polarity"
