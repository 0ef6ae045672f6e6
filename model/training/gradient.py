"""The loss of a batch and its gradient, in microbatches on each of several devices.

A CPU takes as many rows at once as fit its cache: the memory of one microbatch is
used again for the next. Each row drops out by a key of its own, so that neither this
nor the number of devices changes what a step computes, but for the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from saccade.model.array_types import Array, Float, Int
from saccade.model.classifier import Classifier, Variables
from saccade.model.training.optimizer import cross_entropies, smooth_labels

MICROBATCH_EVENTS: Final = 8192
"""Events of a batch that one device takes at a time, on a CPU."""

DEVICES: Final = "devices"
"""The name of a mesh's only axis, along which rows are sharded."""


class Rows(NamedTuple):
    """A `Batch` on the device, field by field."""

    tokens: Int[Array, "b l"]
    dt_ms: Float[Array, "b l"]
    lengths: Int[Array, " b"]
    targets: Float[Array, "b c"]
    weights: Float[Array, " b"]


class LossAndGradient(NamedTuple):
    """The loss of some rows and what the training step needs beside it.

    Attributes:
        loss: The mean over the rows, by weight.
        gradient: Of the loss, by the parameters.
        logits: Scores of the rows, (b, c).
        batch_stats: Updated statistics of batch norm; empty without it.
    """

    loss: Float[Array, ""]
    gradient: Any
    logits: Float[Array, "b c"]
    batch_stats: dict[str, Any]


Params: TypeAlias = dict[str, Any]
Gradient = Callable[[Variables, Rows, Array], LossAndGradient]
"""(variables, rows of a batch, the step's dropout key) -> loss and gradient."""
RowsGradient = Callable[[Rows, Array, Array], LossAndGradient]
"""(some rows, index of the first in the batch, dropout key) -> loss and gradient."""


def make_gradient(
    classifier: Classifier, label_smoothing: float, mesh: Mesh
) -> Gradient:
    """Return the function that takes a batch's gradient.

    Args:
        classifier: The network, in the precision to train it in.
        label_smoothing: See `optimizer.smooth_labels`.
        mesh: Devices that share the rows of a batch; with batch norm one takes all.
    """
    differentiate = jax.value_and_grad(_loss(classifier, label_smoothing), has_aux=True)

    def of_rows(
        params: Params, rest: Params, rows: Rows, first_row: Array, key: Array
    ) -> LossAndGradient:
        (value, (logits, batch_stats)), slope = differentiate(
            params, rest, rows, first_row, key
        )
        return LossAndGradient(value, slope, logits, batch_stats)

    def gradient(variables: Variables, rows: Rows, key: Array) -> LossAndGradient:
        params = variables["params"]
        rest = {k: v for k, v in variables.items() if k != "params"}
        rows = rows._replace(weights=rows.weights / jnp.sum(rows.weights))
        if classifier.config.batchnorm:  # its statistics are of the whole batch
            return of_rows(params, rest, rows, jnp.int32(0), key)
        return _on_devices(mesh, partial(of_rows, params, rest), rows, key)

    return gradient


def _loss(classifier: Classifier, label_smoothing: float) -> Callable[..., Any]:
    """Return the loss of some rows, with their scores and batch statistics beside it.

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
        smoothed = smooth_labels(rows.targets, label_smoothing)
        value = jnp.sum(rows.weights * cross_entropies(logits, smoothed))
        return value, (logits, dict(updates))

    return loss


def _on_devices(
    mesh: Mesh, of_rows: RowsGradient, rows: Rows, key: Array
) -> LossAndGradient:
    """Shard the rows over the devices, and sum their losses and gradients."""

    def on_one(rows: Rows, key: Array) -> tuple[Array, Any, Array]:
        first = jax.lax.axis_index(DEVICES) * rows.tokens.shape[0]
        part = _in_microbatches(of_rows, rows, first, key)
        summed: Any = jax.lax.psum((part.loss, part.gradient), DEVICES)  # type: ignore[no-untyped-call]
        return (*summed, part.logits)

    count, spare = len(rows.weights), -len(rows.weights) % mesh.size
    rows = jax.tree.map(lambda x: _padded(x, spare), rows)
    sharded, replicated = PartitionSpec(DEVICES), PartitionSpec()  # type: ignore[no-untyped-call]
    on_all = jax.shard_map(
        on_one,
        mesh=mesh,
        in_specs=(sharded, replicated),
        out_specs=(replicated, replicated, sharded),
        check_vma=False,
    )
    loss, gradient, logits = on_all(rows, key)
    return LossAndGradient(loss, gradient, logits[:count], {})


def _padded(x: Array, spare: int) -> Array:
    """Add rows of weight 0, so that every device has as many."""
    return jnp.pad(x, [(0, spare)] + [(0, 0)] * (x.ndim - 1))


def _in_microbatches(
    of_rows: RowsGradient, rows: Rows, first_row: Array, key: Array
) -> LossAndGradient:
    """Scan over microbatches, and sum their losses and gradients."""
    held, length = rows.tokens.shape
    size = microbatch_rows(held, length, jax.default_backend())
    if size == held:
        return of_rows(rows, first_row, key)
    parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)
    firsts = first_row + jnp.arange(0, held, size)

    def add(total: Any, part: tuple[Rows, Array]) -> tuple[Any, Array]:
        result = of_rows(*part, key)
        summed = jax.tree.map(jnp.add, total, (result.loss, result.gradient))
        return summed, result.logits

    shapes = jax.eval_shape(
        of_rows, jax.tree.map(lambda x: x[0], parts), firsts[0], key
    )
    zero = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), (shapes.loss, shapes.gradient)
    )
    (loss, gradient), logits = jax.lax.scan(add, zero, (parts, firsts))
    return LossAndGradient(loss, gradient, logits.reshape(held, -1), {})


def microbatch_rows(rows: int, length: int, backend: str) -> int:
    """Return how many rows a device takes at a time: a divisor of their number."""
    if backend != "cpu":
        return rows
    most = max(MICROBATCH_EVENTS // length, 1)
    return max(size for size in range(1, min(most, rows) + 1) if rows % size == 0)
