"""The chosen devices as JAX has them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from saccade.server.devices import Devices, NoDevice


class NamedDevice(NamedTuple):
    """A device that runs models.

    Attributes:
        name: Its name in settings, log and metrics, such as `cuda:1`.
        device: JAX's.
    """

    name: str
    device: Any


def find_devices(chosen: Devices) -> tuple[NamedDevice, ...]:
    """Return the chosen devices, or JAX's first one where JAX is to choose.

    Raises:
        NoDevice: JAX cannot use one of them; says why.
    """
    if chosen.platform == "auto":
        first = jax.local_devices()[0]
        return (NamedDevice(f"{first.platform}:{first.id}", first),)
    try:
        there = jax.local_devices(backend=chosen.platform)
    except RuntimeError as error:
        reason = f"JAX says: {error}"
        remedy = "the log above says more; check the wheels, or give --device cpu"
        raise NoDevice(str(chosen), reason, remedy) from error
    if chosen.platform == "cpu":
        if len(there) <= chosen.indices[-1]:
            reason = f"JAX has {len(there)} CPU devices"
            remedy = "leave JAX_NUM_CPU_DEVICES and XLA_FLAGS to the server"
            raise NoDevice(str(chosen), reason, remedy)
        found = [there[index] for index in chosen.indices]
    else:  # JAX lists those that are visible, and numbers them anew
        found = sorted(there, key=lambda device: device.id)
        if len(found) != len(chosen.indices):
            reason = f"JAX has {len(found)} GPUs"
            raise NoDevice(str(chosen), reason, "check nvidia-smi")
    return tuple(map(NamedDevice, chosen.names, found))
