"""Every block of docs/recipes.md runs, against a real server."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from saccade.clients.recording import Recorder
from saccade.model.events.formats import raw
from saccade.model.events.reading import Findings
from saccade.model.events.sensor import Sensor
from saccade.model.events.simulator.camera import simulate

PAGE = Path(__file__).parents[2].joinpath("docs", "recipes.md").read_text("utf-8")
SHARED, *RECIPES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NAMES = ["numpy", "opencv", "ros", "tonic", "dv", "metavision"]
LISTED = "ws://127.0.0.1:8000"
SIDE = 128
METAVISION_DTYPE = [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")]
TONIC_DTYPE = [("x", "<i8"), ("y", "<i8"), ("t", "<i8"), ("p", "<i8")]


@pytest.fixture(scope="module")
def scene():
    return simulate("left", seed=11, duration_us=400_000)


@pytest.fixture
def install(monkeypatch):
    """Return a function that puts a package with these names in a library's place."""

    def put(name: str, **names: Any) -> None:
        module = ModuleType(name)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)

    return put


def typed(scene, dtype):
    """Return events in a library's type: fields are copied by their names."""
    events = np.empty(scene.size, dtype)
    for name in ("t", "x", "y", "p"):
        events[name] = scene[name]
    return events


class Node:
    """A node that takes part in no network, and is spun over given packets."""

    published: list[str]

    def __init__(self, name):
        self.published = []

    def create_publisher(self, kind, topic, depth):
        return SimpleNamespace(publish=lambda m: self.published.append(m.data))

    def create_subscription(self, kind, topic, callback, profile):
        self.callback = callback


def as_ros(install, scene, folder):
    faery = pytest.importorskip("faery")
    events = typed(scene, faery.EVENTS_DTYPE)
    path = folder / "scene.raw"
    faery.events_stream_from_array(events, (SIDE, SIDE)).to_file(path, version="evt3")
    with path.open("rb") as file:
        raw.read_header(file)
        words = np.frombuffer(file.read(), "u1")

    def spin(node):
        for begin in range(0, words.size, 4_096):
            node.callback(SimpleNamespace(events=words[begin : begin + 4_096]))

    install("rclpy", init=lambda: None, spin=spin)
    install("rclpy.node", Node=Node)
    install("rclpy.qos", qos_profile_sensor_data=object())
    install("event_camera_msgs")
    install("event_camera_msgs.msg", EventPacket=object)
    install("std_msgs")
    install("std_msgs.msg", String=SimpleNamespace)


def as_tonic(install, scene, folder):
    events = typed(scene, TONIC_DTYPE)
    events["x"], events["y"] = events["x"] * 34 // SIDE, events["y"] * 34 // SIDE

    def nmnist(save_to, train):
        return [(events, 7)] * 10

    install("tonic", datasets=SimpleNamespace(NMNIST=nmnist))


def as_dv(install, scene, folder):
    pytest.importorskip("dv_processing")
    path = folder / "drive.aedat4"
    with Recorder(path, Sensor(SIDE, SIDE), Findings()) as recorder:
        recorder.write(scene)


class EventsIterator:
    """Metavision's, over the arrays of a scene."""

    scene: Any

    def __init__(self, path, delta_t):
        pass

    def get_size(self):
        return SIDE, SIDE

    def __iter__(self):
        return iter(np.array_split(typed(self.scene, METAVISION_DTYPE), 40))


def as_metavision(install, scene, folder):
    kind = type("EventsIterator", (EventsIterator,), {"scene": scene})
    install("metavision_core")
    install("metavision_core.event_io", EventsIterator=kind)


def as_opencv(install, scene, folder):
    pytest.importorskip("cv2")


PREPARE = {
    "numpy": lambda *given: None,
    "opencv": as_opencv,
    "ros": as_ros,
    "tonic": as_tonic,
    "dv": as_dv,
    "metavision": as_metavision,
}
SAYS = {
    "numpy": "numpy right",
    "opencv": "",
    "ros": "ros left",
    "tonic": "of 10 are right",
    "dv": "dv left",
    "metavision": "metavision left",
}


@pytest.mark.parametrize(
    ("name", "code"), list(zip(NAMES, RECIPES, strict=True)), ids=NAMES
)
def test_a_recipe_runs(
    server, scene, install, tmp_path, monkeypatch, capsys, name, code
):
    monkeypatch.chdir(tmp_path)
    PREPARE[name](install, scene, tmp_path)
    page: dict[str, Any] = {"__name__": "recipes"}
    for block in (SHARED, code):
        block = block.replace(LISTED, server.url.replace("http", "ws"))
        exec(compile(block, "docs/recipes.md", "exec"), page)
    assert SAYS[name] in capsys.readouterr().out
    if name == "opencv":
        assert (tmp_path / "newest.png").stat().st_size
