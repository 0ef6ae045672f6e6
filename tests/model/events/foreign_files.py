"""The same events in every format that somebody else's library writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import faery
import hdf5plugin
import numpy as np
from rosbags.rosbag2 import StoragePlugin

from saccade.model.events.formats.raw import read_header
from saccade.model.events.sensor import Sensor
from tests.model.events import ros_files as ros
from tests.model.events.hdf5_files import write_columns, write_metavision, write_table

SENSOR: Final = Sensor(128, 128)
PACKET_BYTES: Final = 4096


class Format(NamedTuple):
    """A way to write a file.

    Attributes:
        suffix: The file's.
        write: Writes events of a SENSOR, whose first is at 0 µs, to a path.
        member: The file to read, where the path is a folder.
    """

    suffix: str
    write: Callable[[Path, Any], object]
    member: str = ""


def _faery(path, events, **options):
    stream = faery.events_stream_from_array(
        events.astype(faery.EVENTS_DTYPE), dimensions=(SENSOR.width, SENSOR.height)
    )
    stream.to_file(path, **options)


def _expelliarmus(path, events, encoding):
    from expelliarmus import Wizard

    dtype = [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "u1")]
    Wizard(encoding=encoding).save(path, events.astype(dtype))


def _evt3_payloads(path, events):
    """Return the words that faery writes, in packets."""
    raw = path.with_suffix(".words.raw")
    _faery(raw, events, version="evt3")
    with raw.open("rb") as file:
        read_header(file)
        words = file.read()
    raw.unlink()
    places = range(0, len(words), PACKET_BYTES)
    return [words[place : place + PACKET_BYTES] for place in places]


def _bag(path, events, *, is_ros2, plugin=StoragePlugin.SQLITE3):
    store = ros.typestore(is_ros2=is_ros2)
    size = (SENSOR.width, SENSOR.height)
    payloads = _evt3_payloads(path, events)
    messages = ros.packets(store, payloads, "evt3", size, is_ros2=is_ros2)
    if is_ros2:
        ros.write_ros2(path, {"/events": messages}, store, plugin)
    else:
        ros.write_ros1(path, {"/events": messages}, store)


def _mcap(path, events):
    store = ros.typestore(is_ros2=True)
    payloads = _evt3_payloads(path, events)
    size = (SENSOR.width, SENSOR.height)
    messages = ros.packets(store, payloads, "evt3", size, is_ros2=True)
    ros.write_mcap(path, "/events", messages, store)


def _dvs(path, events):
    store = ros.typestore(is_ros2=False)
    size = (SENSOR.width, SENSOR.height)
    messages = ros.arrays(store, events, "dvs_msgs", size, is_ros2=False)
    ros.write_ros1(path, {"/dvs/events": messages}, store)


def _savetxt(path, events):
    columns = [events[field] for field in "txyp"]
    np.savetxt(path, np.stack(columns, axis=1), "%d", header="t x y p")


def _columns(path, events):
    np.savez_compressed(path, **{field: events[field] for field in "txyp"})


FORMATS: Final[dict[str, Format]] = {
    "faery's aedat4": Format(".aedat4", partial(_faery, file_type="aedat")),
    "faery's csv": Format(".csv", _faery),
    "faery's dat": Format(".dat", _faery),
    "faery's dat, version 1": Format(".dat", partial(_faery, version="dat1")),
    "faery's es": Format(".es", _faery),
    "faery's evt2": Format(".raw", partial(_faery, version="evt2")),
    "faery's evt3": Format(".raw", partial(_faery, version="evt3")),
    "h5py's columns": Format(".h5", partial(write_columns, **hdf5plugin.Blosc())),
    "h5py's table": Format(".h5", partial(write_table, order="txyp", dtype="u4")),
    "h5py's records": Format(".hdf5", partial(write_metavision, mode=None)),
    "numpy's records": Format(".npy", np.save),
    "numpy's columns": Format(".npz", _columns),
    "numpy's text": Format(".txt", _savetxt),
    "rosbags' bag": Format(".bag", partial(_bag, is_ros2=False)),
    "rosbags' dvs bag": Format(".bag", _dvs),
    "rosbags' db3": Format("", partial(_bag, is_ros2=True), "a.db3"),
    "rosbags' mcap": Format(
        "", partial(_bag, is_ros2=True, plugin=StoragePlugin.MCAP), "a.mcap"
    ),
    "mcap's mcap": Format(".mcap", _mcap),
}
"""Each format of each writer that is not ours."""

if find_spec("expelliarmus"):  # it has no wheels for Python from 3.12 on
    FORMATS["expelliarmus' dat"] = Format(
        ".dat", partial(_expelliarmus, encoding="dat")
    )
    for encoding in ("evt2", "evt3"):
        FORMATS[f"expelliarmus' {encoding}"] = Format(
            ".raw", partial(_expelliarmus, encoding=encoding)
        )


def write(folder: Path, name: str, events: Any) -> Path:
    """Write events, and return the file to read."""
    form = FORMATS[name]
    path = folder / f"a{form.suffix}"
    form.write(path, events)
    return path / form.member if form.member else path
