"""What a process of its own tries: compilers, devices, checkpoints.

Libraries may crash there, hang, or take a GPU's memory, without harm to the command
that reports it. The process writes one JSON object a line: the step that begins, or a
finding.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from saccade.server.devices import Devices, NoDevice
from saccade.server.doctor.findings import Finding

SIZE: Final = 64
"""Rows of the matrices that a device multiplies."""

TOLERANCE: Final = 1e-4


class Order(NamedTuple):
    """What to try.

    Attributes:
        platform: That of the devices.
        indices: Theirs.
        native: Whether the models may run on the CPU's native code.
        folders: The checkpoints'.
        precisions: The names of the models that have a precision of their own.
    """

    platform: str
    indices: list[int]
    native: bool
    folders: list[str]
    precisions: list[str]


def main(order: str) -> None:
    """Try everything; this process was started for it.

    Args:
        order: An `Order` as JSON.
    """
    # Libraries may print: what they say goes where the log goes.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    todo = Order(*json.loads(order))
    for step, attempt in STEPS.items():
        _write(report, {"step": step})
        for finding in attempt(todo):
            _write(report, {"finding": finding})


def _write(report: Any, line: dict[str, Any]) -> None:
    report.write(json.dumps(line) + "\n")
    report.flush()


def try_compilers(order: Order) -> Iterator[Finding]:
    """Compile a function with numba, and name the CPU's instructions."""
    if not order.native:
        yield Finding("compilers", "ok", "XLA compiles the models; native code is off")
        return
    try:
        import numba
    except ModuleNotFoundError:
        text = "numba is not installed: XLA runs the models on the CPU, and slower"
        remedy = "pip install 'saccade[server]'"
        yield Finding("compilers", "warning", text, remedy)
        return
    from saccade.model.cpu_kernels.machine import MACHINE, OTHER, cpu_name

    if numba.njit(_double)(21.0) != 42.0:
        text = f"numba {numba.__version__} computes wrong numbers"
        yield Finding("compilers", "fault", text, "pip install -U 'saccade[server]'")
    cpu = f"{cpu_name()} with {os.cpu_count()} threads"
    if OTHER == MACHINE:
        text = f"the CPU ({cpu}) has no fused multiply-add: XLA runs the models"
        remedy = "a CPU with AVX2 or NEON is several times faster"
        yield Finding("compilers", "warning", text, remedy)
        return
    text = f"numba {numba.__version__} compiles {MACHINE.instructions} for {cpu}"
    yield Finding("compilers", "ok", text)


def _double(number: float) -> float:
    return 2 * number


def try_devices(order: Order) -> Iterator[Finding]:
    """Multiply two matrices on each device, and compare with NumPy."""
    import jax
    import numpy as np

    from saccade.server.engine.accelerators import find_devices

    chosen = Devices(order.platform, tuple(order.indices))  # type: ignore[arg-type]
    try:
        devices = find_devices(chosen)
    except NoDevice as error:
        yield Finding("device", "fault", f"{error}", error.remedy)
        return
    rng = np.random.default_rng(0)
    left, right = rng.random((2, SIZE, SIZE), np.float32)
    multiply = jax.jit(lambda a, b: jax.numpy.matmul(a, b, precision="highest"))
    for name, device in devices:
        product = np.asarray(multiply(*jax.device_put((left, right), device)))
        if not np.allclose(product, left @ right, rtol=TOLERANCE):
            text = f"{name} multiplies wrongly, with JAX {jax.__version__}"
            yield Finding("device", "fault", text, "pip install -U 'saccade[server]'")
            continue
        text = f"{name} ({device.device_kind}) computes, with JAX {jax.__version__}"
        yield Finding("device", "ok", text)


def try_checkpoints(order: Order) -> Iterator[Finding]:
    """Read each checkpoint and compare its content's hash with its manifest."""
    from saccade.model.checkpoint import CheckpointError, load

    remedy = "train, export or copy it again, or leave it out"
    names: list[str] = []
    for folder in order.folders:
        try:
            manifest = load(Path(folder)).manifest
        except CheckpointError as error:
            yield Finding("checkpoints", "fault", f"{error}", remedy)
            continue
        names.append(manifest.name)
        text = f"{manifest.name} ({manifest.content_hash[:12]}) is whole: {folder}"
        yield Finding("checkpoints", "ok", text)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        text = f"two checkpoints have the name {twice[0]!r}"
        yield Finding("checkpoints", "fault", text, "leave one out, or export it again")
    if unknown := sorted({*order.precisions} - {"", *names}):
        text = f"matmul_precision names {unknown[0]!r}, which is none of the models"
        yield Finding("checkpoints", "fault", text, f"they are {', '.join(names)}")


STEPS: Final[dict[str, Callable[[Order], Iterator[Finding]]]] = {
    "compilers": try_compilers,
    "device": try_devices,
    "checkpoints": try_checkpoints,
}
"""By the name of the check, what is tried, in this order."""

if __name__ == "__main__":
    main(sys.argv[1])
