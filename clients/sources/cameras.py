"""Events from a camera, through whichever driver is installed.

`camera` takes the first driver that is installed; `camera:DRIVER` names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.source import NOTHING, Source, read_settings
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events, as_events

POLL_S: Final = 0.1
READ_US: Final = 1_000
"""How much of its time Metavision collects before it passes events on, µs."""


class Opened(NamedTuple):
    """A camera that streams."""

    sensor: Sensor
    chunks: Iterator[Events]


class Driver(NamedTuple):
    """A driver: the package to import, how to get it, and how to open a camera.

    `open` receives the package and a serial number, which may be empty.
    """

    package: str
    install: str
    open: Callable[[Any, str], Opened]


def open_camera(text: str, sensor: Sensor | None) -> Source:
    """Open the first camera that is found, or `camera?serial=…`.

    Raises:
        UnplayableSource: No driver is installed, or the driver finds no camera.
    """
    kind, _, query = text.partition("?")
    name = kind.partition(":")[2]
    serial = str(read_settings(text, query, {"serial": ""})["serial"])
    driver, package = _installed(text, name)
    try:
        opened = driver.open(package, serial)
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        said = f": {error}" if str(error) else ""
        reason = (
            f"{driver.package} opens no camera{said}; is it plugged in and free, and "
            "are the driver's udev rules installed?"
        )
        raise UnplayableSource(text, reason) from error
    return Source(
        name=text,
        sensor=sensor or opened.sensor,
        chunks=opened.chunks,
        changes=True,
        live=True,
        when_full="drop-oldest",
    )


def _installed(text: str, name: str) -> tuple[Driver, Any]:
    """Return the named driver, or the first that is installed, and its package."""
    if name and name not in DRIVERS:
        raise UnplayableSource(text, f"the drivers are {', '.join(DRIVERS)}")
    wanted = [DRIVERS[name]] if name else list(DRIVERS.values())
    broken = ""
    for driver in wanted:
        try:
            return driver, importlib.import_module(driver.package)
        except ModuleNotFoundError as error:
            if error.name != driver.package.partition(".")[0]:
                broken = f"{driver.package} is installed, but not its {error.name}. "
        except ImportError as error:
            broken = f"{driver.package} is installed, but fails: {error}. "
    ways = "; or ".join(f"{driver.package}: {driver.install}" for driver in wanted)
    raise UnplayableSource(text, f"{broken}a camera needs a driver. {ways}")


def open_neuromorphic(package: Any, serial: str) -> Opened:
    """Open a Prophesee or iniVation camera with `neuromorphic_drivers`."""
    device = package.open(iterator_timeout=POLL_S, serial=serial or None)
    properties = device.properties()
    sensor = Sensor(int(properties.width), int(properties.height))
    return Opened(sensor, _packets(device))


def _packets(device: Any) -> Iterator[Events]:
    """Yield a device's events; nothing that came in time is an empty chunk."""
    with device:
        for _, packet in device:
            events = None if packet is None else packet.polarity_events
            yield NOTHING if events is None else as_events(events)


def open_inivation(package: Any, serial: str) -> Opened:
    """Open an iniVation camera with `event_camera_drivers`.

    Raises:
        ValueError: A serial number is given: the driver takes none.
    """
    if serial:
        raise ValueError("it opens the first camera that it finds, whatever its serial")
    camera = package.InivationCamera()
    width, height = camera.resolution()
    return Opened(Sensor(int(width), int(height)), map(as_events, camera))


def open_metavision(package: Any, serial: str) -> Opened:
    """Open a Prophesee camera with Metavision's own Python."""
    camera = package.EventsIterator(serial, delta_t=READ_US)
    height, width = camera.get_size()
    return Opened(Sensor(int(width), int(height)), map(as_events, camera))


DRIVERS: Final[Mapping[str, Driver]] = {
    "neuromorphic": Driver(
        "neuromorphic_drivers", "pip install 'saccade[cameras]'", open_neuromorphic
    ),
    "inivation": Driver(
        "event_camera_drivers",
        "pip install event-camera-drivers",
        open_inivation,
    ),
    "metavision": Driver(
        "metavision_core.event_io",
        "comes with OpenEB or Metavision SDK, whose Python must be on PYTHONPATH",
        open_metavision,
    ),
}
"""The driver of each name, in the order of preference."""
