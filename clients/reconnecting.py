"""How long to wait before dialling again, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reconnecting:
    """Exponential backoff with jitter.

    Attributes:
        first_s: The first wait, on average twice this at most.
        most_s: The longest wait.
        give_up_s: How long to try, from the loss of the connection on; 0 never does.
    """

    first_s: float = 0.1
    most_s: float = 5.0
    give_up_s: float = 120.0

    def waits_s(self, at_least_s: float = 0.0) -> Iterator[float]:
        """Yield one wait after another, each drawn at random below a growing bound.

        So that a thousand clients of one server do not all come back at once.

        Args:
            at_least_s: What the server asked for, before the first attempt.
        """
        bound_s = self.first_s
        yield at_least_s + random.uniform(0, bound_s)
        while True:
            bound_s = min(2 * bound_s, self.most_s)
            yield random.uniform(bound_s / 2, bound_s)


RECONNECTING: Final = Reconnecting()
NEVER: Final = Reconnecting(give_up_s=0)
