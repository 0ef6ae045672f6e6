"""Benchmark of the engine on an accelerator, in one command.

    python -m benchmarks.accelerator --json PATH [--quick] [--execution xla]

It needs jax, flax, numpy, numba and msgpack, and no server: a borrowed machine with a
GPU has little else. The steps, each in the file as soon as it ends:

| step | measures |
|---|---|
| device | the device, the host and the versions |
| ceilings | products by precision, copies, launches, a graph of 100 kernels |
| compile | how long each bucket takes, anew and from the folder that keeps it |
| scores | every bucket against the float64 scores that come with the benchmark |
| speed | every bucket: on the device alone, and from NumPy's events to its scores |
| engine | the real engine, fed by threads: all slots, and one stream |
| variants | command buffers and precisions, in turn with what is served |
| trace | the kernels that take longest |

`--quick` is for any machine, also one without an accelerator: small sizes, 90 s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.accelerator.journal import Journal
from benchmarks.accelerator.report import lines
from benchmarks.accelerator.sizes import FULL, QUICK
from benchmarks.accelerator.steps import Run
from saccade.model.backends import BACKENDS

LIMIT_S: Final = 480.0
QUICK_LIMIT_S: Final = 90.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a step failed or a score is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write the result here"
    )
    parser.add_argument("--quick", action="store_true", help="small, within 90 s")
    parser.add_argument(
        "--limit-s", type=float, metavar="S", help="skip what would take longer in all"
    )
    parser.add_argument(
        "--execution", choices=BACKENDS, default="fastest", help="the backend"
    )
    options = parser.parse_args(argv)
    limit_s = options.limit_s or (QUICK_LIMIT_S if options.quick else LIMIT_S)
    journal = Journal({"quick": options.quick}, limit_s, options.json)
    run = Run(QUICK if options.quick else FULL, options.execution, journal.progress)
    journal.run(run.steps(quick=options.quick))
    for line in lines(journal.result):
        sys.stdout.write(f"{line}\n")
    return int(journal.failed or run.wrong)


if __name__ == "__main__":
    sys.exit(main())
