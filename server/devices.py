"""The devices that models run on, chosen from the settings before JAX is imported.

JAX falls back to the CPU without a word where a GPU cannot be used, and takes three
quarters of the memory of every GPU that it sees. So the driver is asked first, and JAX
is then told which devices there are.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

Platform = Literal["auto", "cpu", "cuda"]

DRIVER: Final = "libcuda.so.1"
MOST_CPU_DEVICES: Final = 64
OTHERS: Final = ("/dev/kfd", "/dev/accel0")
"""Where one of these is, there is an accelerator of a kind that JAX knows best."""

CUDA_NAMES: Final = frozenset({"cuda", "gpu"})
"""The names of CUDA in `JAX_PLATFORMS`."""


@dataclass(frozen=True)
class Devices:
    """Devices of one platform, as `--device` names them.

    Attributes:
        platform: `auto`: GPUs where CUDA can be used, else the CPU.
        indices: Which of the platform's; empty: every GPU, or one CPU device.
    """

    platform: Platform
    indices: tuple[int, ...] = ()

    def __str__(self) -> str:
        numbers = ",".join(map(str, self.indices))
        return f"{self.platform}:{numbers}" if numbers else self.platform

    @property
    def names(self) -> tuple[str, ...]:
        """Each device's name, such as `cuda:1`; none where JAX is to choose."""
        return tuple(f"{self.platform}:{index}" for index in self.indices)

    @property
    def count(self) -> int:
        """How many devices run models; one where JAX is to choose."""
        return max(1, len(self.indices))


AUTO: Final = Devices("auto")


@dataclass(eq=False)
class NoDevice(Exception):
    """A device that was asked for cannot be used.

    Attributes:
        asked: What was asked for, as `--device` names it.
        reason: Why it cannot be used.
        remedy: What to do.
    """

    asked: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"there is no {self.asked} to run on: {self.reason}; {self.remedy}"


class Gpu(NamedTuple):
    """A GPU that the driver lists."""

    name: str
    memory_bytes: int


class Choice(NamedTuple):
    """The devices to use.

    Attributes:
        devices: With their indices; `AUTO` where JAX is to choose.
        gpus: The driver's list of all GPUs; empty on another platform.
        reason: Why these, for the log.
        warning: Whether the reason is one that an operator should see to.
    """

    devices: Devices
    gpus: tuple[Gpu, ...] = ()
    reason: str = ""
    warning: bool = False


def parse_devices(text: str) -> Devices:
    """Read `auto`, `cpu`, `cuda`, or either with indices, as `cuda:0,1`.

    Raises:
        ValueError: It is none of them.
    """
    found = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+(?:,\d+)*))?", text.strip())
    if found is None or (found[1] == "auto" and found[2]):
        raise ValueError(
            f"{text!r} is no device; give auto, cpu, cuda, or some of several as "
            "cuda:0,1"
        )
    indices = tuple(map(int, found[2].split(","))) if found[2] else ()
    if len(set(indices)) < len(indices):
        raise ValueError(f"{text!r} names a device twice")
    if found[1] == "cpu" and max(indices, default=0) >= MOST_CPU_DEVICES:
        raise ValueError(f"{text!r}: a CPU is split into {MOST_CPU_DEVICES} at most")
    return Devices(found[1], tuple(sorted(indices)))  # type: ignore[arg-type]


class Plugin(NamedTuple):
    """JAX's plugin for CUDA.

    Attributes:
        package: Its distribution.
        cuda: The major version of CUDA that it is built for.
    """

    package: str
    cuda: int


def installed_plugin() -> Plugin | None:
    """Return JAX's plugin for CUDA, the newest first; None where none is installed."""
    for cuda in (13, 12):
        package = f"jax-cuda{cuda}-plugin"
        try:
            version(package)
            version(f"jax-cuda{cuda}-pjrt")
        except PackageNotFoundError:
            continue
        return Plugin(package, cuda)
    return None


class DriverFault(Exception):
    """The driver of the GPUs is missing, or does not work; says which."""


def list_gpus(cuda: int, load: Callable[[str], Any] = ctypes.CDLL) -> tuple[Gpu, ...]:
    """Return the GPUs that the driver lists; `CUDA_VISIBLE_DEVICES` narrows them.

    Args:
        cuda: The major version of CUDA that the driver must support.
        load: Loads the driver's library.

    Raises:
        DriverFault: There is no driver, it is too old, or it fails.
    """
    try:
        driver = load(DRIVER)
    except OSError:
        raise DriverFault(f"NVIDIA's driver is not installed ({DRIVER})") from None
    _call(driver, "cuInit", 0)
    supported = ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(supported))
    major, minor = supported.value // 1000, supported.value % 1000 // 10
    if major < cuda:
        raise DriverFault(f"the driver supports CUDA {major}.{minor}, not {cuda}")
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    return tuple(_gpu(driver, index) for index in range(count.value))


def _gpu(driver: Any, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    memory = ctypes.c_size_t()
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), memory.value)


def _call(driver: Any, function: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        DriverFault: The call fails.
    """
    status = getattr(driver, function)(*arguments)
    if status:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        said = (text.value or b"unknown error").decode(errors="replace")
        raise DriverFault(f"{function} of NVIDIA's driver fails: {said} ({status})")


def choose(
    asked: Devices,
    environment: Mapping[str, str],
    plugin: Callable[[], Plugin | None] = installed_plugin,
    gpus: Callable[[int], tuple[Gpu, ...]] = list_gpus,
    others: tuple[str, ...] = OTHERS,
) -> Choice:
    """Return the devices to use; what `JAX_PLATFORMS` rules out is not used.

    Args:
        asked: What the settings say.
        environment: The process's.
        plugin: Returns JAX's plugin for CUDA.
        gpus: Returns the driver's list, given the version of CUDA that it must support.
        others: Files of other accelerators.

    Raises:
        NoDevice: A device that was asked for cannot be used.
    """
    allowed = environment.get("JAX_PLATFORMS", "").lower()
    platforms = [name.strip() for name in allowed.split(",") if name.strip()]
    wanted = _named(asked, platforms)
    if wanted is None:
        return Choice(AUTO, reason=f"JAX_PLATFORMS is {allowed}")
    if wanted.platform == "cpu":
        return Choice(_on_cpu(wanted), reason="as was asked for")
    try:
        return _on_cuda(wanted, environment, plugin, gpus)
    except NoDevice as error:
        if wanted.platform == "cuda":
            raise
        reason, installed = error.reason, plugin() is not None
    if any(Path(file).exists() for file in others):
        return Choice(AUTO, reason="JAX knows the accelerator that is here")
    return Choice(_on_cpu(AUTO), reason=reason, warning=installed)


def _named(asked: Devices, platforms: list[str]) -> Devices | None:
    """Return the devices that `JAX_PLATFORMS` leaves; None where JAX is to choose.

    Raises:
        NoDevice: `JAX_PLATFORMS` rules out what was asked for.
    """
    if not platforms:
        return asked
    if asked.platform == "auto":
        if platforms[0] in CUDA_NAMES:
            return Devices("cuda")
        return Devices("cpu") if platforms[0] == "cpu" else None
    names = CUDA_NAMES if asked.platform == "cuda" else {"cpu"}
    if names.isdisjoint(platforms):
        reason = f"JAX_PLATFORMS is {','.join(platforms)!r}"
        raise NoDevice(str(asked), reason, "unset one of the two")
    return asked


def _on_cpu(asked: Devices) -> Devices:
    return Devices("cpu", asked.indices or (0,))


def _on_cuda(
    asked: Devices,
    environment: Mapping[str, str],
    plugin: Callable[[], Plugin | None],
    gpus: Callable[[int], tuple[Gpu, ...]],
) -> Choice:
    """Return the GPUs to use.

    Raises:
        NoDevice: CUDA cannot be used, or a GPU that was asked for is not there.
    """
    name = str(replace(asked, platform="cuda"))
    found = plugin()
    if found is None:
        remedy = "pip install 'saccade[cuda12]' brings it, or give --device cpu"
        raise NoDevice(name, "JAX's plugin for CUDA is not installed", remedy)
    try:
        there = gpus(found.cuda)
    except DriverFault as fault:
        raise NoDevice(name, str(fault), _REMEDY) from None
    if not there:
        raise NoDevice(name, "the driver lists no GPU", _REMEDY)
    seen = environment.get("JAX_CUDA_VISIBLE_DEVICES", "all")
    try:
        visible = (
            [*range(len(there))] if seen == "all" else [*map(int, seen.split(","))]
        )
    except ValueError:
        reason = f"JAX_CUDA_VISIBLE_DEVICES is {seen!r}"
        raise NoDevice(name, reason, "give indices, as 0,1, or unset it") from None
    indices = asked.indices or tuple(visible)
    missing = sorted({*indices} - ({*range(len(there))} & {*visible}))
    if missing:
        have = ", ".join(f"{index}: {there[index].name}" for index in range(len(there)))
        reason = f"the driver lists {have}, and {seen} may be used"
        raise NoDevice(f"cuda:{missing[0]}", reason, _REMEDY)
    names = {there[index].name for index in indices}
    reason = f"{found.package} and the driver have {', '.join(sorted(names))}"
    return Choice(Devices("cuda", indices), there, reason)


_REMEDY: Final = "check nvidia-smi, and in a container --gpus all, or give --device cpu"


MEMORY_VARIABLES: Final = (
    "XLA_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
)
"""Who sets one of these has decided about the GPU's memory; JAX refuses the first two
together."""

MOST_FRACTION: Final = 0.75
"""JAX's own: the rest is for libraries that allocate beside it."""


def variables(
    choice: Choice, environment: Mapping[str, str], needed_bytes: int
) -> dict[str, str]:
    """Return the environment variables by which JAX finds the chosen devices, no more.

    Args:
        choice: The devices.
        environment: The process's; what it sets already is left, but narrowed.
        needed_bytes: Memory of each GPU that the server needs.
    """
    devices = choice.devices
    if devices.platform == "auto":
        return {}
    if devices.platform == "cpu":
        found = {"JAX_PLATFORMS": "cpu"}
        if devices.indices != (0,):
            found["JAX_NUM_CPU_DEVICES"] = str(devices.indices[-1] + 1)
        return found
    numbers = ",".join(map(str, devices.indices))
    found = {"JAX_PLATFORMS": "cuda,cpu", "JAX_CUDA_VISIBLE_DEVICES": numbers}
    if not any(environment.get(name) for name in MEMORY_VARIABLES):
        least = min(choice.gpus[index].memory_bytes for index in devices.indices)
        fraction = min(needed_bytes / least, MOST_FRACTION)
        found[MEMORY_VARIABLES[0]] = f"{fraction:.4f}"
    return found
