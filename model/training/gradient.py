"""The loss of a batch and its gradient, a few rows at a time, on as many devices.

A CPU takes as many rows at once as fit its cache: what the gradient needs of them is
then used again for the next ones, and never leaves for fresh memory. Each row drops out
by a key of its own, so that neither this nor the number of devices changes what a step
computes, but for the order in which it is added up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from saccade.model.classifier import Classifier, Variables
from saccade.model.training.optimizer import cross_entropies, smooth

EVENTS_AT_ONCE: Final = 8192
"""What one device takes at a time of a batch, on a CPU."""

DEVICES: Final = "devices"
"""The name of the only axis of a mesh: rows are spread along it."""


class Rows(NamedTuple):
    """A `Batch` on the device, field by field."""

    tokens: Int[Array, "b l"]
    dt_ms: Float[Array, "b l"]
    lengths: Int[Array, " b"]
    targets: Float[Array, "b c"]
    weights: Float[Array, " b"]


class Found(NamedTuple):
    """What a batch says of the parameters.

    Attributes:
        loss: The mean over the rows, by weight.
        gradient: Of that, by the parameters.
        logits: Scores of the rows, (b, c).
        updates: What batch norm has seen; empty without it.
    """

    loss: Float[Array, ""]
    gradient: Any
    logits: Float[Array, "b c"]
    updates: dict[str, Any]


Params: TypeAlias = dict[str, Any]
Gradient = Callable[[Variables, Rows, Array], Found]
"""Variables, a batch and the step's dropout key to what the batch says."""


def make_gradient(
    classifier: Classifier, label_smoothing: float, mesh: Mesh
) -> Gradient:
    """Return the function that takes a batch's gradient.

    Args:
        classifier: The network, in the precision to train it in.
        label_smoothing: See `objective.smooth`.
        mesh: The devices that share the rows of a batch. Batch norm wants one alone.
    """
    differentiate = jax.value_and_grad(_loss(classifier, label_smoothing), has_aux=True)

    def few(
        params: Params, rest: Params, rows: Rows, first_row: Array, key: Array
    ) -> Found:
        (value, (logits, updates)), slope = differentiate(
            params, rest, rows, first_row, key
        )
        return Found(value, slope, logits, updates)

    def gradient(variables: Variables, rows: Rows, key: Array) -> Found:
        params = variables["params"]
        rest = {k: v for k, v in variables.items() if k != "params"}
        rows = rows._replace(weights=rows.weights / jnp.sum(rows.weights))
        if classifier.config.batchnorm:  # it wants to see the whole batch
            return few(params, rest, rows, jnp.int32(0), key)
        return _spread(mesh, partial(few, params, rest), rows, key)

    return gradient


def _loss(classifier: Classifier, label_smoothing: float) -> Callable[..., Any]:
    """Return the loss of some rows, and beside it their scores and batch norm's news.

    The rows' weights are shares of the whole batch's, so that parts add up to its mean.
    """

    def loss(
        params: Params, rest: Params, rows: Rows, first_row: Array, key: Array
    ) -> tuple[Array, tuple[Array, dict[str, Any]]]:
        logits, updates = classifier.apply(
            {"params": params, **rest},
            rows.tokens,
            rows.dt_ms,
            rows.lengths,
            first_row,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        smoothed = smooth(rows.targets, label_smoothing)
        found = jnp.sum(rows.weights * cross_entropies(logits, smoothed))
        return found, (logits, dict(updates))

    return loss


Few = Callable[[Rows, Array, Array], Found]
"""Some rows, the place of the first, and a key to what they say."""


def _spread(mesh: Mesh, few: Few, rows: Rows, key: Array) -> Found:
    """Let each device take its share of the rows, and add up what they say."""

    def share(rows: Rows, key: Array) -> tuple[Array, Any, Array]:
        first = jax.lax.axis_index(DEVICES) * rows.tokens.shape[0]
        found = _in_turn(few, rows, first, key)
        added: Any = jax.lax.psum((found.loss, found.gradient), DEVICES)  # type: ignore[no-untyped-call]
        return (*added, found.logits)

    count, spare = len(rows.weights), -len(rows.weights) % mesh.size
    rows = jax.tree.map(lambda x: _padded(x, spare), rows)
    each, same = PartitionSpec(DEVICES), PartitionSpec()  # type: ignore[no-untyped-call]
    spread = jax.shard_map(
        share,
        mesh=mesh,
        in_specs=(each, same),
        out_specs=(same, same, each),
        check_vma=False,
    )
    loss, gradient, logits = spread(rows, key)
    return Found(loss, gradient, logits[:count], {})


def _padded(x: Array, spare: int) -> Array:
    """Add rows of weight 0, so that every device has as many."""
    return jnp.pad(x, [(0, spare)] + [(0, 0)] * (x.ndim - 1))


def _in_turn(few: Few, rows: Rows, first_row: Array, key: Array) -> Found:
    """Take rows a few at a time, and add up what they say."""
    held, length = rows.tokens.shape
    size = rows_at_once(held, length, jax.default_backend())
    if size == held:
        return few(rows, first_row, key)
    parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)
    places = first_row + jnp.arange(0, held, size)

    def move(total: Any, part: tuple[Rows, Array]) -> tuple[Any, Array]:
        found = few(*part, key)
        return jax.tree.map(jnp.add, total, (found.loss, found.gradient)), found.logits

    nothing = jax.eval_shape(few, jax.tree.map(lambda x: x[0], parts), places[0], key)
    zero = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), (nothing.loss, nothing.gradient)
    )
    (loss, gradient), logits = jax.lax.scan(move, zero, (parts, places))
    return Found(loss, gradient, logits.reshape(held, -1), {})


def rows_at_once(rows: int, length: int, backend: str) -> int:
    """Return how many rows a device takes at a time: a divisor of their number."""
    if backend != "cpu":
        return rows
    most = max(EVENTS_AT_ONCE // length, 1)
    return max(size for size in range(1, min(most, rows) + 1) if rows % size == 0)
