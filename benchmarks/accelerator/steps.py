"""The steps of a run, in order, and what they hand to one another."""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax

from benchmarks.accelerator import (
    calls,
    ceilings,
    expected,
    load,
    network,
    trace,
    variants,
)
from benchmarks.accelerator.calls import Calls
from benchmarks.accelerator.ceilings import Result
from benchmarks.accelerator.journal import Step, Unavailable
from benchmarks.accelerator.network import CONFIG
from benchmarks.accelerator.sizes import Sizes
from benchmarks.bound import Bound, Ceilings, bound_of, work_of
from saccade.clients.benchmark.machine import machine
from saccade.model.backends import BACKENDS
from saccade.server.engine.compiled import keep_compiled
from saccade.server.engine.model_registry import Canary, Servable

PLANNED_S: Final = {
    "device": 10.0,
    "ceilings": 60.0,
    "compile": 150.0,
    "scores": 40.0,
    "speed": 50.0,
    "engine": 60.0,
    "variants": 90.0,
    "trace": 30.0,
}
"""What each step may take on a GPU; a machine with a fast processor takes less."""
QUICK_S: Final = dict.fromkeys(PLANNED_S, 10.0) | {"compile": 45.0, "device": 5.0}

DRIVER_TIMEOUT_S: Final = 10.0


class Run:
    """One run of the benchmark.

    Args:
        sizes: How large it is.
        execution: The backend, one of `BACKENDS`.
        progress: Receives what is under way.

    Attributes:
        wrong: Whether a bucket's scores are not those of the file.
    """

    def __init__(
        self, sizes: Sizes, execution: str, progress: Callable[[str], None]
    ) -> None:
        self.wrong = False
        self._sizes, self._execution, self._progress = sizes, execution, progress
        self._parameters = network.variables()
        self._expected = expected.read()
        self._ceilings: Result | None = None
        self._calls: Calls | None = None
        self._bound: Bound | None = None
        self._kept = tempfile.TemporaryDirectory()

    def steps(self, *, quick: bool) -> list[Step]:
        """Return the steps in order."""
        planned = QUICK_S if quick else PLANNED_S
        return [Step(name, planned[name], getattr(self, name)) for name in planned]

    def device(self) -> Result:
        """Describe the device, the host and the versions."""
        one = jax.devices()[0]
        return {
            "kind": one.device_kind,
            "platform": one.platform,
            "platform_version": one.client.platform_version,
            "devices": len(jax.devices()),
            "memory": one.memory_stats(),
            "driver": _driver(),
            "host": machine(),
        }

    def ceilings(self) -> Result:
        """Measure what the device does at its best."""
        self._ceilings = ceilings.measure(self._sizes)
        return self._ceilings

    def compile(self) -> Result:
        """Compile every bucket, and compute the bound of the network."""
        keep_compiled(Path(self._kept.name))
        weights = network.weights(self._parameters)
        backend = BACKENDS[self._execution](CONFIG, weights)
        done = calls.compiled(self._servable(backend), self._sizes, self._progress)
        self._calls = done.calls
        return {
            "backend": backend.name,
            "wall_s": done.wall_s,
            "seconds": done.seconds,
            "bound": self._bound_of(weights),
        }

    def scores(self) -> Result:
        """Compare every bucket's scores with the file's."""
        found = calls.check(self._compiled, self._expected)
        self.wrong = bool(found["wrong"])
        return found

    def speed(self) -> Result:
        """Time every bucket."""
        compiled, seconds, found = self._compiled, 3 * self._sizes.sample_s, {}
        for bucket in self._sizes.buckets:
            self._progress(f"bucket {bucket}")
            found[str(bucket)] = calls.speed(compiled, bucket, seconds)
        return found

    def engine(self) -> Result:
        """Load the engine."""
        found = load.measure(self._compiled.servable, self._sizes, self._progress)
        for one in found["loads"]:
            if self._bound is not None:
                one["of_bound"] = one["events_per_s"] / self._bound.events_per_second
        return found

    def variants(self) -> Result:
        """Compare other ways to compile the calls."""
        seconds = 12 * self._sizes.sample_s
        return variants.measure(self._compiled, self._sizes, self._expected, seconds)

    def trace(self) -> Result:
        """Find the kernels that take longest."""
        return trace.measure(self._compiled, self._sizes)

    @property
    def _compiled(self) -> Calls:
        """The compiled calls.

        Raises:
            Unavailable: They were not compiled.
        """
        if self._calls is None:
            raise Unavailable("the step compile did not end")
        return self._calls

    def _servable(self, backend: Any) -> Servable:
        events = network.stream(0, expected.CANARY_TICKS * CONFIG.tick_events)
        scores = self._expected.long[expected.CANARY_TICKS - 1]
        return network.servable(backend, self._parameters, Canary(*events, scores))

    def _bound_of(self, weights: Any) -> Result | None:
        """Return an event's cost, and the events per second that nothing exceeds."""
        if self._ceilings is None:
            return None
        flops = ceilings.exact_flops_per_s(self._ceilings)
        most = Ceilings(flops, math.inf, self._ceilings["copy_bytes_per_s"])
        self._bound = bound_of(work_of(CONFIG, weights), most)
        work = self._bound.work._asdict()
        return {**work, "events_per_s": self._bound.events_per_second}


def _driver() -> str | None:
    """Return what the driver says of the cards, where there is one."""
    facts = "name,driver_version,clocks.max.sm,clocks.max.mem,power.limit"
    command = ["nvidia-smi", f"--query-gpu={facts}", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            timeout=DRIVER_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
