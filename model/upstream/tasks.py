"""The three tasks that the authors publish models for: classes and sensor.

The reference's code tokenizes a 2-D sensor by `product` and a cochlea by its channel
(which `linear` is, too, where the height is 1), pairs an event with the gap that
follows it, and never scores a recording's last event, whose gap nobody knows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from saccade.model.events.types import Sensor
from saccade.model.tokens import Tokenization

_DIGITS: Final = "zero one two three four five six seven eight nine"
_ZIFFERN: Final = "null eins zwei drei vier fünf sechs sieben acht neun"
_COMMANDS: Final = "yes no up down left right on off stop go"
_WORDS: Final = (
    "bed bird cat dog happy house marvin sheila tree wow "
    "backward forward follow learn visual"
)


class Task(NamedTuple):
    """What a checkpoint does not say of itself.

    Attributes:
        name: The reference's name of the task.
        labels: The classes, in the order of the logits.
        tokenization: From pixel and polarity to token.
        note: What is not certain of these facts.
    """

    name: str
    labels: tuple[str, ...]
    tokenization: Tokenization
    note: str = ""


TASKS: Final = {
    "dvs": Task(
        "dvs-gesture-classification",
        (
            "hand clapping",
            "right hand wave",
            "left hand wave",
            "right arm clockwise",
            "right arm counter clockwise",
            "left arm clockwise",
            "left arm counter clockwise",
            "arm roll",
            "air drums",
            "air guitar",
            "other gestures",
        ),
        Tokenization("product", Sensor(128, 128)),
    ),
    "shd": Task(
        "shd-classification",
        tuple(f"{_DIGITS} {_ZIFFERN}".split()),
        Tokenization("linear", Sensor(700, 1, polarities=1)),
    ),
    "ssc": Task(
        "ssc-classification",
        tuple(f"{_COMMANDS} {_DIGITS} {_WORDS}".split()),
        Tokenization("linear", Sensor(700, 1, polarities=1)),
        note="the labels are in the order in which the data set's description lists "
        "them, which nobody has compared with `extra/keys` in its files: --labels "
        "replaces them",
    ),
}


def named(name: str) -> Task | None:
    """Return the task of this name, ours (`dvs`) or the reference's."""
    for short, task in TASKS.items():
        if name in {short, task.name}:
            return task
    return None
