"""Health of the engine: which models are ready, and why the others are not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, Protocol

from saccade.server.engine.errors import EngineError, NotReady
from saccade.server.engine.outputs import DeviceUse

HUNG_S: Final = 30.0
"""A step of the device takes milliseconds; one that takes so long hangs."""

State = Literal["starting", "ready", "failed", "stopped"]


class CanaryResult(NamedTuple):
    """How well the compiled buckets of a model reproduce its canary.

    Attributes:
        matmul_precision: The least that the device may multiply in.
        error: The largest of any bucket, relative to the largest score.
    """

    matmul_precision: str
    error: float


@dataclass(frozen=True)
class ModelHealth:
    """One model's state, and the reason where it is not ready.

    Attributes:
        compiling: What is being compiled; empty where nothing is.
        canary: Of the model's verification; None before it.
    """

    state: State
    reason: str = ""
    compiling: str = ""
    canary: CanaryResult | None = None


@dataclass(frozen=True)
class Health:
    """Every model's state at one moment.

    Attributes:
        models: The states, by model.
        concerns: What else does not work, and is tried again; no reason not to serve.
        lost: By model, the numbers of the devices that it is lost on while others
            serve it.
    """

    models: Mapping[str, ModelHealth]
    concerns: tuple[str, ...] = ()
    lost: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether every model may take sessions."""
        return all(model.state == "ready" for model in self.models.values())

    @property
    def failed(self) -> bool:
        """Whether a model is lost or was refused."""
        return any(model.state == "failed" for model in self.models.values())

    @property
    def reason(self) -> str:
        """Why the engine is not ready, model by model; empty when it is ready."""
        return "; ".join(
            f"{name} is {model.state}: {model.reason}"
            for name, model in self.models.items()
            if model.state != "ready"
        )

    @property
    def compiling(self) -> tuple[str, str]:
        """The model that is being compiled, and what of it; empty where none is."""
        named = [(name, model.compiling) for name, model in self.models.items()]
        return next((pair for pair in reversed(named) if pair[1]), ("", ""))

    def after_step_of(self, seconds: float) -> Health:
        """Return this health, with ready models failed if a step takes so long."""
        if seconds < HUNG_S:
            return self
        hung = ModelHealth("failed", f"the device has not answered for {seconds:.0f} s")
        ready = {name for name, model in self.models.items() if model.state == "ready"}
        return replace(self, models={**self.models, **dict.fromkeys(ready, hung)})


def merged_health(devices: Mapping[str, Health]) -> Health:
    """Return the health of several devices that serve the same models.

    A model that is lost on some of them is served by the others, which is a concern.

    Args:
        devices: By name.
    """
    if len(devices) == 1:
        return next(iter(devices.values()))
    models, concerns, lost = {}, [], {}
    for model in next(iter(devices.values())).models:
        states = {
            name: health.models[model]
            for name, health in devices.items()
            if model in health.models  # it may be added, or removed, now
        }
        models[model] = max(states.values(), key=_rank)
        failed = [name for name, each in states.items() if each.state == "failed"]
        if failed and models[model].state != "failed":
            names = [*devices]
            lost[model] = tuple(names.index(name) for name in failed)
            concerns += [
                f"{model} is lost on {name}: {states[name].reason}" for name in failed
            ]
    return Health(models, tuple(concerns), lost)


def _rank(model: ModelHealth) -> tuple[int, float]:
    """Order a model's states; of devices that serve it the least exact comes last."""
    error = 0.0 if model.canary is None else model.canary.error
    return _ORDER[model.state], error


_ORDER: Final[Mapping[State, int]] = {
    "failed": 0,
    "ready": 1,
    "starting": 2,
    "stopped": 3,
}
"""A model is as on the device that comes last: it fails only where all have failed."""


class HasHealth(Protocol):
    """An engine, in this process or in another, that knows how its models are."""

    @property
    def health(self) -> Health:
        """Every model's state now."""

    @property
    def use(self) -> list[DeviceUse]:
        """What each device of this process does."""


class Status:
    """Each model's state, which the device thread writes and any thread may read."""

    def __init__(self, models: Iterable[str]) -> None:
        waiting = ModelHealth("starting", "waits for the device thread")
        self._models = dict.fromkeys(models, waiting)
        self._errors: dict[str, EngineError] = {}
        self._lock = threading.Lock()

    @property
    def health(self) -> Health:
        """The state of every model now."""
        with self._lock:
            return Health(dict(self._models))

    def compiling(self, model: str, what: str) -> None:
        """Record which part of a model is being compiled.

        Raises:
            NotReady: The engine stops, so that the model need not be compiled.
        """
        if self._models[model].state == "stopped":
            raise NotReady("the server stops")
        self._set(model, ModelHealth("starting", f"compiling {what}", what))

    def add(self, model: str, canary: CanaryResult | None = None) -> None:
        """Add a model, which is ready unless the engine stops."""
        with self._lock:
            states = {entry.state for entry in self._models.values()}
            stopped = ModelHealth("stopped", "the server stops")
            self._models[model] = (
                stopped if "stopped" in states else ModelHealth("ready", canary=canary)
            )

    def remove(self, model: str) -> None:
        """Remove a model."""
        with self._lock:
            del self._models[model]
            self._errors.pop(model, None)

    def ready(self, model: str, canary: CanaryResult | None = None) -> None:
        """Record that a model may take sessions."""
        self._set(model, ModelHealth("ready", canary=canary))

    def fail(self, model: str, error: EngineError) -> None:
        """Record that a model is lost; the first reason stands."""
        first = self._errors.setdefault(model, error)
        self._set(model, ModelHealth("failed", str(first)))

    def stop(self) -> None:
        """Record that no model takes sessions any more."""
        with self._lock:
            for name, model in self._models.items():
                if model.state != "failed":
                    reason = "the server stops"
                    self._models[name] = replace(model, state="stopped", reason=reason)

    def failure(self, model: str) -> EngineError | None:
        """Return why a model is lost, or None."""
        return self._errors.get(model)

    def check(self, model: str) -> None:
        """Raise if a model does not take sessions.

        Raises:
            NotReady: The model does not yet, or no more.
            EngineError: The model is lost, for this reason.
        """
        failure = self.failure(model)
        if failure is not None:
            raise failure
        current = self._models[model]
        if current.state != "ready":
            raise NotReady(current.reason)

    def _set(self, model: str, health: ModelHealth) -> None:
        with self._lock:
            if model in self._models and self._models[model].state != "stopped":
                self._models[model] = health
