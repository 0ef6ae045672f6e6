"""A source of events, and what is known about it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import numpy as np

from saccade.clients.errors import UnplayableSource
from saccade.clients.pacing import RawFrame
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import EVENT_DTYPE, Events
from saccade.server.protocol.messages import Encoding, WhenFull

Setting: TypeAlias = str | float
LARGEST_SETTING: Final = 1e9
NOTHING: Final[Events] = np.empty(0, EVENT_DTYPE)
"""The chunk of a live source where no event has arrived."""


class Timeline:
    """The true labels of a simulated scene, each with the time when it begins."""

    def __init__(self) -> None:
        self._starts_us: list[int] = []
        self._labels: list[str] = []

    def append(self, t_us: int, label: str) -> None:
        """Add the label that is true from `t_us` on; call in order of time."""
        if not self._labels or self._labels[-1] != label:
            self._starts_us.append(t_us)
            self._labels.append(label)

    def at(self, t_us: int) -> str | None:
        """Return the label that is true at `t_us`; None before the first."""
        place = bisect_right(self._starts_us, t_us)
        return self._labels[place - 1] if place else None


class RawWords(NamedTuple):
    """A camera's own words: the wire's name of their encoding, and the words."""

    encoding: Encoding
    frames: Iterator[RawFrame]


@dataclass(frozen=True)
class Source:
    """Events to stream, with what is known about them.

    Attributes:
        name: For the user.
        sensor: The camera's geometry; None where the source does not say it.
        chunks: The events, to be iterated once. Those of a live source are to be
            iterated in a thread; an empty chunk means that nothing has arrived.
        model: The model that was trained on such events.
        truth: The true labels, where they are known.
        changes: Whether the scene changes, so that old events must fade from the
            scores.
        live: Whether events arrive at their own pace, instead of being played.
        when_full: What to do, unless the user chooses, with events that come faster
            than they are scored.
        findings: What is met beside events.
        raw: The same as the camera's own words, if that is how they are to be sent.
    """

    name: str
    sensor: Sensor | None
    chunks: Iterator[Events]
    model: str | None = None
    truth: Timeline = field(default_factory=Timeline)
    changes: bool = False
    live: bool = False
    when_full: WhenFull = "block"
    findings: Findings = field(default_factory=Findings)
    raw: RawWords | None = None


def read_settings(
    text: str, query: str, defaults: Mapping[str, Setting]
) -> dict[str, Setting]:
    """Read the settings after a source's `?`, such as `seed=7&seconds=60`.

    Args:
        text: The whole source, for errors.
        query: What follows the `?`.
        defaults: Every setting with its default, whose type is the setting's.

    Raises:
        UnplayableSource: There is no such setting, or its value is no number or out
            of range.
    """
    settings = dict(defaults)
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in settings:
            known = ", ".join(settings)
            raise UnplayableSource(text, f"no setting {name!r}; there are {known}")
        numeric = isinstance(settings[name], float)
        settings[name] = _number(text, name, value) if numeric else value
    return settings


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UnplayableSource(text, f"{name} is no number: {value!r}") from None
    if not 0 <= number < LARGEST_SETTING or (name != "seed" and not number):
        raise UnplayableSource(text, f"{name} is out of range: {value}")
    return number
