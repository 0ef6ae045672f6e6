"""What the engine needs to know of a model, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

PyTree: TypeAlias = Any
"""Arrays nested in tuples, dicts and dataclasses that JAX can flatten."""

Advance: TypeAlias = Callable[..., tuple[PyTree, Any]]
"""weights, carry[s,…], tokens[s,k·R], dt_ms[s,k·R], ticks[s] → carry, logits[s,k,c]"""


class Canary(NamedTuple):
    """A short stream and the scores that it must give.

    Attributes:
        tokens: Embedding indices, `(l,)` int32; whole ticks.
        dt_ms: Integration timesteps, `(l,)` float32.
        logits: Scores after the last tick, `(c,)`.
    """

    tokens: npt.NDArray[np.int32]
    dt_ms: npt.NDArray[np.float32]
    logits: npt.NDArray[np.floating[Any]]


class Servable(NamedTuple):
    """A model as the engine sees it: a state, and how ticks move it.

    Attributes:
        name: What clients call it.
        version: Tells apart those of one name; empty where there is one.
        tick_events: Events per tick, R.
        classes: Number of logits.
        weights: Device arrays, an argument of every call.
        fresh: One session's carry at its beginning, from a float32 `half_life_ms`
            (infinite: the whole session counts alike); JAX traces it.
        advance: Moves row i of a batch of carries by `ticks[i]` ticks.
        canary: What every compiled bucket must reproduce.
        advance_rows: (weights, pool, rows[s], tokens, dt_ms, ticks) -> pool, logits;
            moves those rows of a pool where they are. Without it `advance` is used.
        prepare: Compiles what it shares with other models, and calls its argument
            meanwhile, which may raise to end it.
    """

    name: str
    tick_events: int
    classes: int
    weights: PyTree
    fresh: Callable[[Any], PyTree]
    advance: Advance
    canary: Canary
    version: str = ""
    advance_rows: Advance | None = None
    prepare: Callable[[Callable[[], None]], None] | None = None

    @property
    def key(self) -> str:
        """What the engine calls it."""
        return f"{self.name}@{self.version}" if self.version else self.name
