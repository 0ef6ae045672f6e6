"""Opening what arrives at its own pace: sockets, standard input, cameras, topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from saccade.clients.sources.cameras import open_camera
from saccade.clients.sources.dv import open_dv
from saccade.clients.sources.ros2 import open_topic
from saccade.clients.sources.source import Source
from saccade.clients.sources.stdin import open_stdin
from saccade.clients.sources.udp import open_udp
from saccade.model.events.sensor import Sensor

Opener: TypeAlias = Callable[[str, Sensor | None], Source]
"""Opens a live source, given its whole text and the geometry that the user says."""

LIVE: Final[Mapping[str, Opener]] = {
    "udp": open_udp,
    "stdin": open_stdin,
    "tcp": open_dv,
    "camera": open_camera,
    "ros2": open_topic,
}
"""The opener of each kind, which is what stands before `:` or `?`."""


def is_live(text: str) -> bool:
    """Return whether a source arrives at its own pace, as `udp://0.0.0.0:3333`."""
    return _kind(text) in LIVE


def open_live(text: str, sensor: Sensor | None = None) -> Source:
    """Open a live source.

    Args:
        text: The source, for which `is_live` is true.
        sensor: Its geometry, where it does not say that itself.

    Raises:
        UnplayableSource: It cannot be opened; the reason says what is missing.
    """
    return LIVE[_kind(text)](text, sensor)


def _kind(text: str) -> str:
    return text.partition("?")[0].partition(":")[0]
