"""Recordings opened for a command: with a model that suits them, and what was met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from saccade.clients.errors import RequestRefused
from saccade.model.events.errors import MalformedRecording
from saccade.model.events.geometry import holds
from saccade.model.events.reading import Origin, ReadOptions
from saccade.model.events.recordings import Recording
from saccade.model.events.sensor import Sensor
from saccade.model.events.split import open_split

if TYPE_CHECKING:  # httpx is no part of the base install
    from saccade.clients.http import ModelCard

ALL_CAMERAS: Final = "all"
"""The name that stands for every camera of a file."""


@dataclass
class Models:
    """A server's models, asked for once, and the choice among them.

    Attributes:
        list_models: Asks the server.
        named: The model that the user names; None to choose one that suits.
        notify: Receives a line at the first choice of each model.
    """

    list_models: Callable[[], list[ModelCard]]
    named: str | None
    notify: Callable[[str], None]
    _cards: list[ModelCard] = field(default_factory=list)
    _told: set[str] = field(default_factory=set)

    def choose(self, sensor: Sensor, origin: Origin) -> ModelCard | str:
        """Return the user's model, or else the one for a recording's sensor.

        Where the sensor is a guess, that is the smallest that holds it; where none
        suits, the server's first. The user's name alone is returned where nothing has
        to be known of the model, or where the server does not list it.

        Raises:
            RequestRefused: The server serves no model.
        """
        if self.named is not None and origin != "guess":
            return self.named
        self._cards = self._cards or self.list_models()
        if self.named is not None:
            return next((c for c in self._cards if c.name == self.named), self.named)
        if not self._cards:
            raise RequestRefused(200, None, "the server serves no model")
        chosen = suitable(self._cards, sensor, origin)
        if len(self._cards) > 1 and chosen.name not in self._told:
            names = ", ".join(card.name for card in self._cards)
            self.notify(f"asking {chosen.name}; --model chooses of {names}")
            self._told.add(chosen.name)
        return chosen

    def name_for(self, sensor: Sensor, origin: Origin) -> str:
        """Return the name of the model that `choose` returns."""
        chosen = self.choose(sensor, origin)
        return chosen if isinstance(chosen, str) else chosen.name


def suitable(cards: Sequence[ModelCard], sensor: Sensor, origin: Origin) -> ModelCard:
    """Return the model for a sensor, or for the bounds of events; else the first."""
    exact = [card for card in cards if card.sensor == sensor]
    if origin == "guess" and not exact:
        around = [card for card in cards if holds(card.sensor, sensor)]
        exact = sorted(around, key=lambda c: c.sensor.width * c.sensor.height)
    return (exact or list(cards))[0]


def open_files(
    paths: Sequence[Path], options: ReadOptions, clock_bits: int | None, models: Models
) -> tuple[Recording, str]:
    """Open a recording, or several files of one, and choose the model to ask.

    Where no file says the geometry, the model's is taken if it holds all events.

    Raises:
        RecordingError: A file cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise MalformedRecording(path, "there is no such file")
    recording = open_split(paths, options, clock_bits)
    card = models.choose(recording.sensor, recording.origin)
    if isinstance(card, str):
        return recording, card
    if recording.origin == "guess":
        options = replace(options, model_sensor=card.sensor)
        recording = open_split(paths, options, clock_bits)
    return recording, card.name


def cameras_of(
    paths: Sequence[Path], options: ReadOptions, clock_bits: int | None
) -> list[ReadOptions]:
    """Return the options for each camera to read: the chosen one, or all of them."""
    if options.camera != ALL_CAMERAS:
        return [options]
    found = open_split(paths, replace(options, camera=None), clock_bits).cameras
    return [replace(options, camera=name) for name in found or (None,)]


@dataclass
class Remarks:
    """What a user should know of a recording, in words, each said once."""

    recording: Recording
    _told: int = 0

    def at_first(self) -> Iterator[str]:
        """Yield what is known once the recording is open: a guess, other cameras."""
        if self.recording.origin == "guess":
            sensor = self.recording.sensor
            yield f"its sensor is guessed to be {sensor}; --sensor WxH says it"
        yield from self._new_warnings()

    def at_last(self) -> Iterator[str]:
        """Yield what was met, once all events were read."""
        yield from self._new_warnings()
        skipped = self.recording.findings.skipped
        if skipped:
            counts = (f"{count:,} {kind}" for kind, count in skipped.items())
            yield f"skipped {', '.join(counts)}"

    def _new_warnings(self) -> Iterator[str]:
        warnings = self.recording.findings.warnings
        yield from warnings[self._told :]
        self._told = len(warnings)
