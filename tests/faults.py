"""Devices that fail or wait when they are told to, in the middle of a real batch."""

from __future__ import annotations

import threading
from typing import Any

import jax
import numpy as np

from tests.toy import toy_advance


class Fault:
    """The toy, computed on the device with a call that may raise.

    Args:
        poison: A score that always breaks the device.
    """

    TEXT = "the device is gone"

    def __init__(self, poison: float | None = None) -> None:
        self._armed = 0
        self._poison = poison

    @property
    def armed(self) -> bool:
        """Whether a call is still to fail."""
        return self._armed > 0

    def arm(self, times: int) -> None:
        """Fail the next so many calls."""
        self._armed = times

    def advance(self, *arguments: Any) -> Any:
        """What a servable's `advance` does; fails while it runs, not while traced."""
        carry, logits = toy_advance(*arguments)
        shape = jax.ShapeDtypeStruct(logits.shape, logits.dtype)
        return carry, jax.pure_callback(self._pass, shape, logits)

    def _pass(self, logits: Any) -> Any:
        scores = np.asarray(logits)
        if self._armed or (self._poison is not None and (scores == self._poison).any()):
            self._armed = max(0, self._armed - 1)
            raise RuntimeError(self.TEXT)
        return scores


class Gate:
    """A model that waits, on the device, until it is let through."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def advance(self, *arguments: Any) -> Any:
        carry, logits = toy_advance(*arguments)
        jax.debug.callback(lambda _: self._open.wait(30) or None, logits[0, 0, 0])
        return carry, logits

    def __enter__(self) -> None:
        self._open.clear()

    def __exit__(self, *_: object) -> None:
        self._open.set()
