"""A run's saved states, from which it resumes as if it had never stopped.

A batch follows from the run's seed and its place in the schedule, and dropout from the
step; so the train state, a position and the length of the metrics are all there is to
save.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import jax
import numpy as np
import orbax.checkpoint as ocp

from saccade.model.training.devices import is_first
from saccade.model.training.errors import CannotSave, InvalidSetting
from saccade.model.training.train_state import TrainState

KEPT: Final = 2
"""States on disk: the newest, and the one before it."""


@dataclass(frozen=True)
class Position:
    """The position of a run between two steps; its fields are a file format.

    Attributes:
        epochs: Whole epochs done, validation included.
        batches: Batches done of the epoch after them.
        samples: Training samples, to detect a data set that has changed.
        pending: Tallies since the last report of the metrics.
        best: The best validation so far, as `TrainingProgress.to_dict` gives it.
        stale: Validations since the best one.
        metrics_bytes: Length of the metrics.
        wall_s: Seconds spent so far.
    """

    epochs: int = 0
    batches: int = 0
    samples: int = 0
    pending: list[list[float]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stale: int = 0
    metrics_bytes: int = 0
    wall_s: float = 0.0


class SavedStates:
    """The newest states of one run on disk, written while training goes on."""

    def __init__(self, folder: Path) -> None:
        me = jax.process_index()  # each process of a run has a folder of its own
        options = ocp.CheckpointManagerOptions(
            max_to_keep=KEPT,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=me,
                active_processes={me},
                barrier_sync_key_prefix=f"process{me}",
            ),
        )
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> SavedStates:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with nullcontext() if error else saving(self._folder):
            self._manager.close()

    def save(self, state: TrainState, position: Position) -> None:
        """Save a state; an older one stays until this one is whole.

        Only the first of several processes saves: Orbax numbers saves by a counter of
        each process in a store that all share, so two that save at once would deadlock.
        """
        step = int(state.step)
        if not is_first() or step in self._manager.all_steps():
            return
        # A copy: the next step reuses the state's memory while this is written.
        leaves = [np.array(leaf) for leaf in jax.tree.leaves(state)]
        items = ocp.args.Composite(
            learner=ocp.args.StandardSave(_named(leaves)),  # the folder's name on disk
            position=ocp.args.JsonSave(asdict(position)),
        )
        with saving(self._folder):
            self._manager.save(step, args=items)

    def restore(self, like: TrainState) -> tuple[TrainState, Position]:
        """Return the newest state.

        Args:
            like: A state of the same configuration.

        Raises:
            InvalidSetting: There is no state, or it is of another configuration.
        """
        step = self._manager.latest_step()
        if step is None:
            raise InvalidSetting("resume", "this run ended before its first state")
        leaves, shape = jax.tree.flatten(like)
        items = ocp.args.Composite(
            learner=ocp.args.StandardRestore(_named([np.asarray(x) for x in leaves])),
            position=ocp.args.JsonRestore(),
        )
        try:
            restored = self._manager.restore(step, args=items)
        except ValueError as error:
            raise InvalidSetting("resume", f"another model's state: {error}") from error
        arrays = [
            jax.numpy.asarray(restored["learner"][name], old.dtype)
            for name, old in _named(leaves).items()
        ]
        return jax.tree.unflatten(shape, arrays), Position(**restored["position"])


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{place:05}": leaf for place, leaf in enumerate(leaves)}


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn whatever Orbax and TensorStore raise for a disk's error into CannotSave."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotSave(path, lines[0][:200]) from error
