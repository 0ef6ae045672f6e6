"""What can go wrong between a session and the device.

EngineError
├── NotReady            still compiling, or stopping
├── UnknownServable     no model of that name
├── AlreadyServed       another model has that name
├── StillServed         sessions hold slots of a model that is to go
├── SlotsExhausted      every slot is lent
├── StaleLease          the slot has another tenant by now
├── RowMismatch         a row to be restored is not of this model
├── BacklogFull         a session submitted more than it may hold
├── CanaryMismatch      a compiled bucket computes wrong scores
└── EngineFailed        the device thread met an exception
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything that the engine raises on purpose."""


class NotReady(EngineError):
    """The engine does not take sessions yet, or no more."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"the engine is not ready: {self.reason}"


class UnknownServable(EngineError):
    """No model has that name."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __str__(self) -> str:
        return f"no model is called {self.model!r}"


class AlreadyServed(EngineError):
    """A model of that name is served; its sessions would lose theirs."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __str__(self) -> str:
        return f"a model is called {self.model!r} already"


class StillServed(EngineError):
    """Sessions hold slots of the model."""

    def __init__(self, model: str, slots_used: int) -> None:
        self.model = model
        self.slots_used = slots_used

    def __str__(self) -> str:
        return f"{self.slots_used} sessions are on {self.model!r}"


class SlotsExhausted(EngineError):
    """Every slot of the model is lent to a session."""

    def __init__(self, model: str, slots: int) -> None:
        self.model = model
        self.slots = slots

    def __str__(self) -> str:
        return f"all {self.slots} slots of {self.model!r} are taken"


class StaleLease(EngineError):
    """The lease was released or renewed."""

    def __init__(self, slot: int, generation: int) -> None:
        self.slot = slot
        self.generation = generation

    def __str__(self) -> str:
        return f"generation {self.generation} of slot {self.slot} has ended"


class RowMismatch(EngineError):
    """A row that is to be restored has not the form of this model's rows."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __str__(self) -> str:
        return f"the state to go on with is not one of {self.model!r}"


class BacklogFull(EngineError):
    """A session holds more events than it was granted."""

    def __init__(self, waiting: int, offered: int, capacity: int) -> None:
        self.waiting = waiting
        self.offered = offered
        self.capacity = capacity

    def __str__(self) -> str:
        return (
            f"{self.offered} events offered to a backlog that holds "
            f"{self.waiting} of {self.capacity}"
        )


class CanaryMismatch(EngineError):
    """A compiled bucket does not reproduce the model's stored scores."""

    def __init__(self, model: str, bucket: str, platform: str, error: float) -> None:
        self.model = model
        self.bucket = bucket
        self.platform = platform
        self.error = error

    def __str__(self) -> str:
        return (
            f"model {self.model!r} refused: bucket {self.bucket} on {self.platform} "
            f"misses the stored scores by {self.error:.2g} of the largest"
        )


class EngineFailed(EngineError):
    """The device thread met an exception; the sessions on that pool are lost."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"the engine failed: {self.reason}"
