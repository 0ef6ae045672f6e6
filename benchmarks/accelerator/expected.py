"""Scores of the network by float64 arithmetic, in a file that comes with the benchmark.

    python -m benchmarks.accelerator.expected

writes the file anew: `benchmarks.sequential` runs event by event, in NumPy alone, for
about two minutes. The network and the events are not in the file: they follow from
`benchmarks.accelerator.network`.

A call's rows are compared with the streams that they hold. Neighbouring rows hold
different streams, and so do rows that are a power of two apart.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.accelerator.network import CONFIG, Stream, stream, variables

PATH: Final = Path(__file__).parents[1] / "data" / "dvs_small_scores.npz"
LONG_TICKS: Final = 64
"""Ticks of stream 0, for calls of many ticks."""
SHORT_TICKS: Final = 4
STREAMS: Final = 256
CANARY_TICKS: Final = 2
TOLERANCE: Final = 1e-4
"""Largest error allowed, relative to the largest score of the file."""


class Expected(NamedTuple):
    """The scores after each tick, float32 of float64 results.

    Attributes:
        long: Stream 0, (64, c).
        short: All streams, (256, 4, c).
    """

    long: npt.NDArray[np.float32]
    short: npt.NDArray[np.float32]

    @property
    def scale(self) -> float:
        """The largest score."""
        return float(max(np.abs(part).max() for part in self))

    def of_row(self, row: int, rows: int) -> tuple[Stream, npt.NDArray[np.float32]]:
        """Return the stream that a row of a call holds, and the stream's scores."""
        if rows == 1:
            return stream(0, LONG_TICKS * CONFIG.tick_events), self.long
        number = (row + row // STREAMS) % STREAMS
        return stream(number, SHORT_TICKS * CONFIG.tick_events), self.short[number]


def read(path: Path = PATH) -> Expected:
    """Read the file.

    Raises:
        ValueError: The file holds the scores of another network; names the command
            that writes it anew.
    """
    with np.load(path) as file:
        if str(file["config"]) != repr(CONFIG):
            raise ValueError(
                f"{path} holds scores of another network; write it anew: "
                f"python -m {__spec__.name}"
            )
        return Expected(file["long"], file["short"])


def compute() -> Expected:
    """Compute all scores, in float64."""
    from benchmarks.sequential import Network

    parameters: Any = variables()

    def scores(number: int, ticks: int) -> list[npt.NDArray[np.float64]]:
        network, size = Network(CONFIG, parameters), CONFIG.tick_events
        events = stream(number, ticks * size)
        found = []
        for tick in range(ticks):
            tokens, dt_ms = events.part(tick * size, (tick + 1) * size)
            found.append(network.feed(tokens, dt_ms.astype(np.float64)))
        return found

    short = [scores(number, SHORT_TICKS) for number in range(STREAMS)]
    return Expected(
        np.asarray(scores(0, LONG_TICKS), np.float32), np.asarray(short, np.float32)
    )


def main() -> int:
    """Write the file."""
    PATH.parent.mkdir(exist_ok=True)
    found = compute()
    np.savez_compressed(PATH, config=repr(CONFIG), **found._asdict())
    sys.stdout.write(f"{PATH}: {PATH.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
