"""Errors of the engine.

EngineError
├── NotReady            still compiling, or stopping
├── UnknownServable     no model of that name
├── AlreadyServed       another model has that name
├── StillServed         sessions hold slots of a model that is to be unloaded
├── SlotsExhausted      every slot is leased
├── StaleLease          the lease was released or renewed
├── RowMismatch         a row to be restored is not of this model
├── BacklogFull         a session submitted more than it may hold
├── CanaryMismatch      a compiled bucket computes wrong scores
├── EngineFailed        the device thread met an exception
└── DeviceLost          the process cannot use its device any more, and must end
"""

from __future__ import annotations

from dataclasses import dataclass


class EngineError(Exception):
    """Base of all errors that the engine raises on purpose."""


@dataclass(eq=False)
class NotReady(EngineError):
    """The engine does not take sessions yet, or no more."""

    reason: str

    def __str__(self) -> str:
        return f"the engine is not ready: {self.reason}"


@dataclass(eq=False)
class UnknownServable(EngineError):
    """No model has that name."""

    model: str

    def __str__(self) -> str:
        return f"no model is called {self.model!r}"


@dataclass(eq=False)
class AlreadyServed(EngineError):
    """A model of that name is served already."""

    model: str

    def __str__(self) -> str:
        return f"a model is called {self.model!r} already"


@dataclass(eq=False)
class StillServed(EngineError):
    """Sessions hold slots of the model."""

    model: str
    slots_used: int

    def __str__(self) -> str:
        return f"{self.slots_used} sessions are on {self.model!r}"


@dataclass(eq=False)
class SlotsExhausted(EngineError):
    """Every slot of the model is leased to a session."""

    model: str
    slots: int

    def __str__(self) -> str:
        return f"all {self.slots} slots of {self.model!r} are taken"


@dataclass(eq=False)
class StaleLease(EngineError):
    """The lease was released or renewed."""

    slot: int
    generation: int

    def __str__(self) -> str:
        return f"generation {self.generation} of slot {self.slot} has ended"


@dataclass(eq=False)
class RowMismatch(EngineError):
    """A row that is to be restored does not have the form of this model's rows."""

    model: str

    def __str__(self) -> str:
        return f"the state to go on with is not one of {self.model!r}"


@dataclass(eq=False)
class BacklogFull(EngineError):
    """A session holds more events than it may."""

    waiting: int
    offered: int
    capacity: int

    def __str__(self) -> str:
        return (
            f"{self.offered} events offered to a backlog that holds "
            f"{self.waiting} of {self.capacity}"
        )


@dataclass(eq=False)
class CanaryMismatch(EngineError):
    """A compiled bucket does not reproduce the model's stored scores."""

    model: str
    bucket: str
    platform: str
    error: float
    precision: str = "float32"

    def __str__(self) -> str:
        return (
            f"model {self.model!r} refused: bucket {self.bucket} on {self.platform} "
            f"misses the stored scores by {self.error:.2g} of the largest, which is "
            f"more than {self.precision} may"
        )


@dataclass(eq=False)
class EngineFailed(EngineError):
    """The device thread met an exception; the sessions on that pool are lost."""

    reason: str

    def __str__(self) -> str:
        return f"the engine failed: {self.reason}"


@dataclass(eq=False)
class DeviceLost(EngineError):
    """The device answers no call of this process any more; another one can use it."""

    def __str__(self) -> str:
        return "the device is lost to this process, which must be started again"
