"""Calls of the kernels without XLA: on the calling thread, on NumPy's arrays.

XLA runs a call on a thread of its own, and wakes the caller once it is over: where
cores are few, two threads that wait for one. A call that is worth one thread only is
over sooner on the thread that makes it.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from saccade.model.config import ModelConfig
from saccade.model.cpu_kernels.call import (
    ARGUMENTS,
    GAPS,
    LOGITS,
    MOVED_POOL,
    PLAN,
    POOL,
    RESULTS,
    ROWS,
    TICKS,
    TOKENS,
    WEIGHTS,
)
from saccade.model.cpu_kernels.handler import IN_PLACE, entry
from saccade.model.cpu_kernels.packing import plan, row_layout, thread_ticks

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

LONG_TICKS: Final = 64
"""Ticks of one session in a long call: a model is for this where that is worth one
thread."""

QUICK_PART: Final = 4
"""A call of so many times less work than is worth another thread is a quick one: 0.2 ms
at most, for which an event loop need not ask another thread."""

_HEAD: Final = 1
_KINDS: Final = {
    False: ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64),
    True: ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64),
}
"""By whether the thread keeps Python's lock."""


def suits(config: ModelConfig) -> bool:
    """Return whether one session's long call is worth one thread only."""
    return 2 * thread_ticks(config) > LONG_TICKS


def quick_ticks(config: ModelConfig) -> int:
    """Return how many ticks a quick call has at most; 0 where one is too many."""
    return min(thread_ticks(config) // QUICK_PART, LONG_TICKS)


class RowsCall:
    """Moves some rows of a pool, as `advance.advance_rows` does, but in place.

    For one thread at a time. Other threads may move other rows meanwhile.

    Args:
        config: The model's configuration.
        rows: Rows of the pool.
        sessions: Sessions of a call.
        ticks: Ticks of each.
        keeps_lock: Whether the thread keeps Python's lock during a call: for quick ones
            of a thread that would have to wait for it afterwards.
    """

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        sessions: int,
        ticks: int,
        *,
        keeps_lock: bool = False,
    ) -> None:
        events = ticks * config.tick_events
        self._plan = np.array(plan(config, rows, sessions, events), np.int32)
        self._scores = sessions, ticks, config.num_classes
        self._one = (sessions,)
        self._events = sessions, events
        self._pool = rows, row_layout(config).width
        self._frame = np.zeros(_HEAD + ARGUMENTS + RESULTS, np.int64)
        self._frame[0] = IN_PLACE
        self._places = self._frame[_HEAD:]
        self._places[PLAN] = _address(self._plan, self._plan.shape, np.int32)
        self._call = _KINDS[keeps_lock](entry())
        self._at = self._frame.ctypes.data

    def __call__(
        self,
        weights: Floats,
        pool: Floats,
        rows: Ints,
        tokens: Ints,
        dt_ms: Floats,
        ticks: Ints,
    ) -> Floats:
        """Move rows of the pool; return the logits after each tick, (s, k, c).

        All arrays are contiguous.

        Args:
            weights: From `packing.pack`.
            pool: The sessions' carries, in `row_layout`, (r, w).
            rows: The sessions' rows, (s,); those that move are distinct.
            tokens: (s, k·R) for k ticks of R events.
            dt_ms: Integration timesteps, (s, k·R), ms.
            ticks: How many of its k ticks each session moves, (s,).

        Raises:
            ValueError: An array is not of the shape and kind that was announced.
            MemoryError: There is no scratch memory; no row was moved.
        """
        places, logits = self._places, np.empty(self._scores, np.float32)
        places[ROWS] = _address(rows, self._one, np.int32)
        places[TOKENS] = _address(tokens, self._events, np.int32)
        places[GAPS] = _address(dt_ms, self._events, np.float32)
        places[TICKS] = _address(ticks, self._one, np.int32)
        places[WEIGHTS] = _address(weights, weights.shape, np.float32)
        places[POOL] = _address(pool, self._pool, np.float32)
        places[ARGUMENTS + MOVED_POOL] = places[POOL]
        places[ARGUMENTS + LOGITS] = _address(logits, self._scores, np.float32)
        if self._call(self._at):
            raise MemoryError("no memory for a call of the kernels")
        return logits


def _address(array: npt.NDArray[Any], shape: tuple[int, ...], kind: Any) -> int:
    """Return the address of an array's first number.

    Raises:
        ValueError: The array is another one.
    """
    if array.shape != shape or array.dtype != kind or not array.flags.c_contiguous:
        found = f"{array.dtype} {array.shape}"
        raise ValueError(f"contiguous {np.dtype(kind)} {shape} is wanted, not {found}")
    address: int = array.__array_interface__["data"][0]
    return address
