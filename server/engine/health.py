"""What the engine says of itself: which model is ready, and why one is not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from saccade.server.engine.errors import EngineError, NotReady

HUNG_S: Final = 30.0
"""A turn of the device takes milliseconds; after so long it has hung."""

State = Literal["starting", "ready", "failed", "stopped"]


@dataclass(frozen=True)
class ModelHealth:
    """One model's state, and the reason where it is not ready."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class Health:
    """Every model's state at one moment."""

    models: Mapping[str, ModelHealth]

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
        """Why it is not ready, model by model; empty when it is."""
        return "; ".join(
            f"{name} is {model.state}: {model.reason}"
            for name, model in self.models.items()
            if model.state != "ready"
        )

    def after_silence(self, seconds: float) -> Health:
        """Return what holds where the device has not answered for so long."""
        if seconds < HUNG_S:
            return self
        hung = ModelHealth("failed", f"the device has not answered for {seconds:.0f} s")
        ready = {name for name, model in self.models.items() if model.state == "ready"}
        return Health({**self.models, **dict.fromkeys(ready, hung)})


class Status:
    """The device thread's notes on its models, which any thread may read."""

    def __init__(self, models: Iterable[str]) -> None:
        waiting = ModelHealth("starting", "waits for the device thread")
        self._models = dict.fromkeys(models, waiting)
        self._errors: dict[str, EngineError] = {}
        self._lock = threading.Lock()

    @property
    def health(self) -> Health:
        """A snapshot."""
        with self._lock:
            return Health(dict(self._models))

    def compiling(self, model: str, what: str) -> None:
        """Note what is being prepared.

        Raises:
            NotReady: The engine stops, and need not prepare it.
        """
        if self._models[model].state == "stopped":
            raise NotReady("the server stops")
        self._set(model, ModelHealth("starting", f"compiling {what}"))

    def add(self, model: str) -> None:
        """Note another model, which is ready unless the engine stops."""
        with self._lock:
            states = {entry.state for entry in self._models.values()}
            stopped = ModelHealth("stopped", "the server stops")
            self._models[model] = (
                stopped if "stopped" in states else ModelHealth("ready")
            )

    def remove(self, model: str) -> None:
        """Note that a model is gone."""
        with self._lock:
            del self._models[model]
            self._errors.pop(model, None)

    def ready(self, model: str) -> None:
        """Note that a model may take sessions."""
        self._set(model, ModelHealth("ready"))

    def fail(self, model: str, error: EngineError) -> None:
        """Note that a model is lost; the first reason stands."""
        first = self._errors.setdefault(model, error)
        self._set(model, ModelHealth("failed", str(first)))

    def stop(self) -> None:
        """Note that no model takes sessions any more."""
        with self._lock:
            for name, model in self._models.items():
                if model.state != "failed":
                    reason = "the server stops"
                    self._models[name] = replace(model, state="stopped", reason=reason)

    def failure(self, model: str) -> EngineError | None:
        """Return why a model is lost, or None."""
        return self._errors.get(model)

    def check(self, model: str) -> None:
        """Confirm that a model takes sessions.

        Raises:
            NotReady: Not yet, or no more.
            EngineError: It is lost, for this reason.
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
