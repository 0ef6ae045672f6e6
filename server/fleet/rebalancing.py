"""Which sessions move to an emptier replica: few at a time, idle ones first.

Plain values in, plain values out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from saccade.server.fleet.report import Replica

TOLERANCE: Final = 0.25
"""How much fuller than the whole fleet a replica may be, as a part."""
SPARED: Final = 1
"""Sessions above that which are not worth moving."""


def surplus(
    replicas: Sequence[Replica], model: str, sessions: int, capacity: int
) -> int:
    """Return how many sessions of a model a process has beyond its share.

    Args:
        replicas: The fleet.
        model: The model.
        sessions: The process's sessions of it.
        capacity: How many it may have.
    """
    serving = [one.models[model] for one in replicas if one.serves(model)]
    room = sum(load.capacity for load in serving)
    if len(serving) < 2 or not room:
        return 0
    fair = capacity * sum(load.sessions for load in serving) / room
    if sessions <= fair * (1 + TOLERANCE) + SPARED:
        return 0
    return sessions - math.ceil(fair)
