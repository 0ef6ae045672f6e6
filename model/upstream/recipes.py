"""Recipes of the authors' checkpoints: network, task and tokens, from preset or file.

A recipe comes from a preset of the authors (`dvs/small`), or from a YAML file in their
form or in ours:

    task: {name: shd-classification}       task: shd
    model:                                 model:
      ssm: {d_model: 96, …}                  d_model: 96
      ssm_init: {conj_sym: false, …}         conj_sym: false

For a task other than the authors' three the file has `labels: […]` and
`sensor: [width, height]`, and may have `tokens: {scheme, downsample, timestep}` and
`model.num_embeddings`.

The reference's code tokenizes a 2-D sensor by `product` and a cochlea by its channel
(equal to `linear` where the height is 1), pairs an event with the gap that follows it,
and never scores a recording's last event, which has no such gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from saccade.model.config import ModelConfig
from saccade.model.events.sensor import Sensor
from saccade.model.tokens import TimestepConvention, Tokenization
from saccade.model.upstream.errors import InvalidRecipe, UnknownRecipe

_DIGITS: Final = "zero one two three four five six seven eight nine"
_ZIFFERN: Final = "null eins zwei drei vier fünf sechs sieben acht neun"
_COMMANDS: Final = "yes no up down left right on off stop go"
_WORDS: Final = (
    "bed bird cat dog happy house marvin sheila tree wow "
    "backward forward follow learn visual"
)


class Task(NamedTuple):
    """Facts of a task that a checkpoint does not hold.

    Attributes:
        name: The reference's name of the task.
        labels: The classes, in the order of the logits.
        tokenization: From pixel and polarity to token.
        note: Doubts about these facts.
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
    """Return the task of this short name (`dvs`) or name of the reference's."""
    for short, task in TASKS.items():
        if name in {short, task.name}:
            return task
    return None


PRESETS: Final = Path(__file__).parents[1] / "training" / "conf" / "model"
"""The presets of `saccade train`, the authors' among them, read as plain YAML."""

REFERENCE_DEFAULTS: Final = {
    "classification_mode": "pool",
    "prenorm": False,
    "batchnorm": False,
    "bn_momentum": 0.9,
    "step_rescale": 1.0,
    "pooling_stride": 1,
    "pooling_mode": "last",
    "state_expansion_factor": 1,
    "dropout": 0.2,
}
"""The reference's defaults of `model.ssm`."""


class Recipe(NamedTuple):
    """Facts of a network and its task that a checkpoint does not hold.

    Attributes:
        name: The preset's name, or the file's.
        config: The network.
        labels: The classes, in the order of the logits.
        tokenization: From pixel and polarity to token.
        timestep: Which gap an event is paired with.
        note: Doubts about these facts.
    """

    name: str
    config: ModelConfig
    labels: tuple[str, ...]
    tokenization: Tokenization
    timestep: TimestepConvention
    note: str = ""


def presets() -> list[str]:
    """Return the names of the authors' presets."""
    files = (file for family in TASKS for file in (PRESETS / family).glob("*.yaml"))
    return sorted(
        file.relative_to(PRESETS).with_suffix("").as_posix() for file in files
    )


def recipe(name: str, labels: Sequence[str] | None = None) -> Recipe:
    """Return the recipe of a preset or a file.

    Args:
        name: A preset such as `dvs/small`, or the path of a YAML file.
        labels: Replace the task's classes.

    Raises:
        UnknownRecipe: There is no such preset or file.
        InvalidRecipe: The file is incomplete or wrong.
    """
    if name in presets():
        path = PRESETS / f"{name}.yaml"
        model = {key: value for key, value in _read(path).items() if key != "defaults"}
        values = {"model": model, "task": name.partition("/")[0]}
    elif (path := Path(name)).suffix in {".yaml", ".yml"} and path.is_file():
        values = _read(path)
    else:
        raise UnknownRecipe(name, presets())
    if labels is not None:
        values["labels"] = list(labels)
    try:
        return _build(name, values)
    except (ValueError, TypeError) as error:
        raise InvalidRecipe(path, str(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRecipe(path, f"it is no YAML: {error}") from None
    if not isinstance(values, dict):
        raise InvalidRecipe(path, "it is no mapping")
    return values


def _build(name: str, values: Mapping[str, Any]) -> Recipe:
    task = _task(values.get("task"))
    labels = values.get("labels", task.labels if task else None)
    if not isinstance(labels, list | tuple):
        raise ValueError(
            "the classes are not known: `task` is none of "
            f"{', '.join(TASKS)}, and there are no `labels`"
        )
    tokens = _mapping("tokens", values.get("tokens", {}))
    tokenization = _tokenization(values.get("sensor"), tokens, task)
    settings = _settings(_mapping("model", values.get("model")))
    settings.setdefault("num_embeddings", tokenization.num_tokens)
    settings.setdefault("num_classes", len(labels))
    replaced = task is not None and tuple(labels) != task.labels
    return Recipe(
        name=name,
        config=ModelConfig.from_dict(settings),
        labels=tuple(map(str, labels)),
        tokenization=tokenization,
        timestep=tokens.get("timestep", "following"),
        note="" if task is None or replaced else task.note,
    )


def _task(value: Any) -> Task | None:
    name = value.get("name") if isinstance(value, Mapping) else value
    return None if name is None else named(str(name))


def _tokenization(
    sensor: Any, tokens: Mapping[str, Any], task: Task | None
) -> Tokenization:
    if sensor is None and task is None:
        raise ValueError("the sensor is not known: give `sensor: [width, height]`")
    facts: dict[str, Any] = {} if task is None else task.tokenization.to_dict()
    if sensor is not None:
        geometry = Sensor.from_list(sensor)
        scheme = "product" if geometry.height > 1 else "linear"
        facts = {"scheme": scheme, "sensor": list(sensor)}
    chosen = {key: tokens[key] for key in ("scheme", "downsample") if key in tokens}
    return Tokenization.from_dict({**facts, **chosen})


def _settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's settings as one flat mapping, from either form."""
    if "ssm" not in model:
        return dict(model)
    parts = {
        key: _mapping(f"model.{key}", model.get(key)) for key in ("ssm", "ssm_init")
    }
    for key in ("conj_sym", "clip_eigs"):
        if key not in parts["ssm_init"]:
            raise ValueError(f"model.ssm_init does not say {key}")
    rest = {key: value for key, value in model.items() if key not in parts}
    return {**REFERENCE_DEFAULTS, **parts["ssm"], **parts["ssm_init"], **rest}


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is no mapping")
    return value
