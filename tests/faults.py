"""A device that fails when it is told to, in the middle of a real batch."""

from __future__ import annotations

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
