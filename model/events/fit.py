"""Fitting one sensor's events to another's geometry: reject, scale or crop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from saccade.model.events.errors import SensorMismatch
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, check_inside

Fit: TypeAlias = Literal["reject", "scale", "crop"]
"""The name of a policy, as the wire, flags and settings have it."""


def fit(events: Events, source: Sensor, target: Sensor, policy: Fit) -> Events:
    """Move events from one sensor's pixels to another's.

    Where width and height agree, events are returned as they are, whatever the
    policy. Polarities are not touched.

    `scale` keeps every event: the rate of the whole sensor is unchanged, and a
    pixel's rate grows by the ratio of the areas (640×480 into 128×128: 25 source
    pixels feed one). `crop` keeps a pixel's rate and loses the events outside the
    window. Which one suits a model depends on the rates that it was trained at.

    Args:
        events: Events inside `source`, shape (n,).
        source: The geometry that the events come from.
        target: The geometry to fit.
        policy: `reject` refuses another geometry; `scale` applies one factor
            to both axes so that the whole source fits, centred; `crop` takes
            the centre and drops what lies outside (a smaller source is
            centred).

    Returns:
        Events inside `target`, in the same order; `events` itself where the
        geometries agree.

    Raises:
        SensorMismatch: The policy is `reject` and the geometries differ.
        EventOutsideSensor: The policy is `scale` and an event lies outside
            `source`.
        ValueError: No such policy.
    """
    if policy not in POLICIES:
        raise ValueError(f"fit is one of {', '.join(POLICIES)}, not {policy!r}")
    if (source.width, source.height) == (target.width, target.height):
        return events
    return POLICIES[policy](events, source, target)


def _reject(events: Events, source: Sensor, target: Sensor) -> Events:
    raise SensorMismatch(source, target)


def _scale(events: Events, source: Sensor, target: Sensor) -> Events:
    check_inside(events, source)
    by_width = target.width * source.height <= target.height * source.width
    numerator, denominator = (
        (target.width, source.width) if by_width else (target.height, source.height)
    )
    fitted = events.copy()
    for field, old, new in (
        ("x", source.width, target.width),
        ("y", source.height, target.height),
    ):
        places = _scaled_places(old, new, numerator, denominator)
        fitted[field] = places.take(events[field], mode="clip")
    return fitted


def _scaled_places(
    old: int, new: int, numerator: int, denominator: int
) -> npt.NDArray[np.uint16]:
    """Map each of `old` coordinates into 0 … new - 1, by pixel centres."""
    covered = -(-old * numerator // denominator)
    centres = (2 * np.arange(old, dtype=np.int64) + 1) * numerator // (2 * denominator)
    return (centres + (new - covered) // 2).astype(np.uint16)


def _crop(events: Events, source: Sensor, target: Sensor) -> Events:
    left = (source.width - target.width) // 2
    top = (source.height - target.height) // 2
    x = events["x"].astype(np.int32) - left
    y = events["y"].astype(np.int32) - top
    inside = (x >= 0) & (x < target.width) & (y >= 0) & (y < target.height)
    kept = events[inside]
    kept["x"] = x[inside]
    kept["y"] = y[inside]
    return kept


POLICIES: Final[dict[Fit, Callable[[Events, Sensor, Sensor], Events]]] = {
    "reject": _reject,
    "scale": _scale,
    "crop": _crop,
}
"""Each policy's function of events, source and target; the one list of policies."""
