"""What can go wrong while something is saved, told as one error with the path."""

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
from saccade.model.training.train_state import Learner


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn whatever Orbax and TensorStore raise for a disk's error into CannotSave."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise CannotSave(path, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


# >>> merged from model.training.resumption
# >>> """The state of a run on disk: what it needs to go on as if it had never stopped.
# >>>
# >>> A batch depends on the run's seed and its place in the schedule alone, and dropout on
# >>> the step; so the learner, a position and the length of the metrics are all there is.
# >>> """

KEPT: Final = 2


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        epochs: Whole epochs done, validation included.
        batches: Batches done of the epoch after them.
        samples: Training samples, to notice a data set that has changed.
        pending: Tallies since the last look at the metrics.
        best: The best validation so far, as `loop` writes it.
        stale: Validations since.
        metrics_bytes: Length of the metrics.
        wall_s: Spent so far.
    """

    epochs: int = 0
    batches: int = 0
    samples: int = 0
    pending: list[list[float]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stale: int = 0
    metrics_bytes: int = 0
    wall_s: float = 0.0


class States:
    """The newest states of one run, written while training goes on."""

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
        self._kept = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> States:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with nullcontext() if error else saving(self._folder):
            self._kept.close()

    def save(self, learner: Learner, position: Position) -> None:
        """Keep a state; an older one stays until this is whole.

        Of several processes the first alone does: Orbax tells one save from another by
        a number that each process counts for itself, in a store that all of them share,
        so two that write at once wait for each other's words in vain.
        """
        step = int(learner.step)
        if not is_first() or step in self._kept.all_steps():
            return
        # A copy: the next step reuses the learner's memory while this is written.
        leaves = [np.array(leaf) for leaf in jax.tree.leaves(learner)]
        state = ocp.args.Composite(
            learner=ocp.args.StandardSave(_named(leaves)),
            position=ocp.args.JsonSave(asdict(position)),
        )
        with saving(self._folder):
            self._kept.save(step, args=state)

    def restore(self, like: Learner) -> tuple[Learner, Position]:
        """Return the newest state.

        Args:
            like: A learner of the same configuration.

        Raises:
            InvalidSetting: There is none, or it is of another configuration.
        """
        step = self._kept.latest_step()
        if step is None:
            raise InvalidSetting("resume", "this run ended before its first state")
        leaves, shape = jax.tree.flatten(like)
        arguments = ocp.args.Composite(
            learner=ocp.args.StandardRestore(_named([np.asarray(x) for x in leaves])),
            position=ocp.args.JsonRestore(),
        )
        try:
            found = self._kept.restore(step, args=arguments)
        except ValueError as error:
            raise InvalidSetting("resume", f"another model's state: {error}") from error
        restored = [found["learner"][name] for name in _named(leaves)]
        arrays = [
            jax.numpy.asarray(leaf, old.dtype)
            for leaf, old in zip(restored, leaves, strict=True)
        ]
        return jax.tree.unflatten(shape, arrays), Position(**found["position"])


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{place:05}": leaf for place, leaf in enumerate(leaves)}
