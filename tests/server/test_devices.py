"""`--device`: what is there is used, what is not is an error in words."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

from saccade.server import device_memory
from saccade.server.cli import serve
from saccade.server.devices import (
    AUTO,
    MEMORY_VARIABLES,
    Choice,
    Devices,
    DriverFault,
    Gpu,
    NoDevice,
    Plugin,
    choose,
    list_gpus,
    parse_devices,
    variables,
)
from saccade.server.engine.accelerators import find_devices
from saccade.server.setting_values import parse_buckets
from saccade.server.settings import Settings

GIB = 1 << 30
TWO = (Gpu("NVIDIA H200", 140 * GIB), Gpu("NVIDIA H200", 140 * GIB))
PLUGIN = Plugin("jax-cuda12-plugin", 12)
NO_FILES: tuple[str, ...] = ()


def chosen(
    asked: str,
    plugin: Plugin | None = PLUGIN,
    gpus: tuple[Gpu, ...] | DriverFault = TWO,
    others: tuple[str, ...] = NO_FILES,
    **environment: str,
) -> Choice:
    """Choose on a machine that has this plugin, these GPUs and this environment."""

    def listed(_: int) -> tuple[Gpu, ...]:
        if isinstance(gpus, DriverFault):
            raise gpus
        return gpus

    return choose(parse_devices(asked), environment, lambda: plugin, listed, others)


class Driver:
    """NVIDIA's library as `ctypes` calls it, for a machine with so many GPUs."""

    def __init__(self, gpus: int = 2, version: int = 12080, **fails: int) -> None:
        self._gpus, self._version, self._fails = gpus, version, fails

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._fails.get(name) or self._run(name, arguments)

    def _run(self, name: str, arguments: tuple[Any, ...]) -> int:
        first = getattr(arguments[0], "_obj", None)
        match name:
            case "cuDriverGetVersion":
                first.value = self._version
            case "cuDeviceGetCount":
                first.value = self._gpus
            case "cuDeviceGet":
                first.value = arguments[1]
            case "cuDeviceGetName":
                arguments[0].value = f"GPU {arguments[2].value}".encode()
            case "cuDeviceTotalMem_v2":
                first.value = 80 * GIB
            case "cuGetErrorString":
                ctypes.cast(arguments[1], ctypes.POINTER(ctypes.c_char_p))[0] = b"said"
        return 0


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("auto", AUTO),
        ("cpu", Devices("cpu")),
        ("cpu:0,1", Devices("cpu", (0, 1))),
        ("cuda:3,1", Devices("cuda", (1, 3))),
    ],
)
def test_a_device_has_a_platform_and_perhaps_indices(
    text: str, devices: Devices
) -> None:
    assert parse_devices(text) == devices
    assert Settings.read({"SACCADE_DEVICE": text}, {}).device == devices


@pytest.mark.parametrize(
    "text", ["gpu", "cuda:", "cuda:a", "cuda:0,0", "auto:1", "cpu:64", "cuda:-1", ""]
)
def test_what_is_no_device_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="--device"):
        Settings.read({}, {"device": text})


def test_every_gpu_is_taken_unless_some_are_named() -> None:
    assert chosen("cuda").devices == Devices("cuda", (0, 1))
    assert chosen("cuda:1").devices.names == ("cuda:1",)
    assert "H200" in chosen("auto").reason


def test_auto_takes_the_cpu_where_there_is_no_gpu_and_says_why() -> None:
    plain = chosen("auto", plugin=None)
    assert (plain.devices, plain.warning) == (Devices("cpu", (0,)), False)
    assert "not installed" in plain.reason
    broken = chosen("auto", gpus=DriverFault("no driver"))
    assert (broken.devices, broken.warning) == (Devices("cpu", (0,)), True)
    assert broken.reason == "no driver"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"plugin": None}, "cuda12"),
        ({"gpus": DriverFault("NVIDIA's driver is not installed")}, "driver is not"),
        ({"gpus": ()}, "lists no GPU"),
        ({"JAX_PLATFORMS": "cpu"}, "JAX_PLATFORMS"),
        ({"JAX_CUDA_VISIBLE_DEVICES": "0"}, "cuda:1"),
        ({"JAX_CUDA_VISIBLE_DEVICES": "GPU-5f1e"}, "indices"),
        ({"gpus": TWO[:1]}, "0: NVIDIA H200"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_an_error_and_never_the_cpu(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NoDevice, match=reason):
        chosen("cuda:1", **options)


def test_what_jax_platforms_names_is_what_auto_takes() -> None:
    assert chosen("auto", JAX_PLATFORMS="cpu").devices == Devices("cpu", (0,))
    assert chosen("auto", JAX_PLATFORMS="cuda,cpu").devices.platform == "cuda"
    assert chosen("auto", JAX_PLATFORMS="tpu").devices == AUTO
    with pytest.raises(NoDevice):
        chosen("auto", plugin=None, JAX_PLATFORMS="cuda")
    with pytest.raises(NoDevice, match="unset"):
        chosen("cpu", JAX_PLATFORMS="cuda")


def test_another_accelerator_is_left_to_jax(tmp_path: Path) -> None:
    (tmp_path / "kfd").touch()
    there = (str(tmp_path / "kfd"),)
    assert chosen("auto", plugin=None, others=there).devices == AUTO
    assert chosen("cpu", plugin=None, others=there).devices == Devices("cpu", (0,))
    assert variables(Choice(AUTO), {}, GIB) == {}


def test_jax_sees_the_chosen_gpus_alone_and_takes_the_memory_that_is_needed() -> None:
    assert variables(chosen("cuda:1"), {}, 14 * GIB) == {
        "JAX_PLATFORMS": "cuda,cpu",
        "JAX_CUDA_VISIBLE_DEVICES": "1",
        "XLA_CLIENT_MEM_FRACTION": "0.1000",
    }
    assert variables(chosen("cpu:0,2"), {}, GIB) == {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "3",
    }


def test_never_more_memory_is_taken_than_jax_takes() -> None:
    found = variables(chosen("cuda"), {}, 500 * GIB)
    assert found["XLA_CLIENT_MEM_FRACTION"] == "0.7500"


@pytest.mark.parametrize("name", MEMORY_VARIABLES)
def test_what_the_user_says_of_memory_stands(name: str) -> None:
    """JAX refuses to start where both names of the fraction are set."""
    found = variables(chosen("cuda"), {name: "0.5"}, GIB)
    assert found.keys().isdisjoint(MEMORY_VARIABLES)


def test_the_memory_grows_with_slots_and_has_a_floor() -> None:
    def needed(slots: int, buckets: str) -> int:
        chosen = Settings(slots=slots, buckets=parse_buckets(buckets))
        return device_memory.needed_bytes(chosen)

    few = needed(1, "1x1")
    assert few == device_memory.LEAST_BYTES
    assert needed(1 << 20, "1x1") - few > (1 << 20) * 1024
    assert needed(1, "1024x16") > 2 * few
    assert device_memory.needed_bytes(Settings(models=(Path("none"),))) == few


def test_the_driver_is_asked_which_gpus_there_are() -> None:
    driver = Driver(gpus=2)
    assert list_gpus(12, lambda name: driver) == (
        Gpu("GPU 0", 80 * GIB),
        Gpu("GPU 1", 80 * GIB),
    )


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (Driver(version=12040), "supports CUDA 12.4, not 13"),
        (Driver(version=13000, cuInit=100), "cuInit .* said .100"),
        (Driver(version=13000, cuDeviceGetCount=999), "cuDeviceGetCount"),
    ],
)
def test_a_driver_that_is_old_or_fails_says_so(driver: Driver, reason: str) -> None:
    with pytest.raises(DriverFault, match=reason):
        list_gpus(13, lambda name: driver)


def test_a_driver_that_is_not_there_is_named() -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(DriverFault, match=r"libcuda\.so\.1"):
        list_gpus(12, missing)


def test_a_server_without_its_gpu_ends_with_status_2_and_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert serve(["--port", "0", "--device", "cuda:0"]) == 2
    said = capsys.readouterr().err
    assert "no cuda:0 to run on" in said
    assert "JAX_PLATFORMS" in said
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_a_gpu_that_jax_does_not_find_is_an_error_too() -> None:
    """JAX goes on with the CPU where its plugin cannot be loaded."""
    with pytest.raises(NoDevice, match=r"JAX says: .*cuda"):
        find_devices(Devices("cuda", (0,)))
    with pytest.raises(NoDevice, match="JAX has 1 CPU"):
        find_devices(Devices("cpu", (0, 1)))
    assert [one.name for one in find_devices(AUTO)] == ["cpu:0"]
