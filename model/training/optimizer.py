"""The loss that training minimizes, and the optimizer: AdamW in parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import optax

from saccade.model.array_types import Array, Float
from saccade.model.training.settings import OptimizerSettings

STATE_MATRICES: Final = frozenset({"B", "Lambda_re", "Lambda_im"})
"""Parameters trained at `ssm_lr` without weight decay: they set a state's memory."""

UNDECAYED: Final = frozenset({"log_step"})
"""Parameters trained at `lr` without weight decay: they are logarithms."""


def smooth_labels(targets: Float[Array, "b c"], amount: float) -> Float[Array, "b c"]:
    """Spread a share of each target evenly over the classes."""
    return (1.0 - amount) * targets + amount / targets.shape[-1]


def cross_entropy(
    logits: Float[Array, "b c"],
    targets: Float[Array, "b c"],
    weights: Float[Array, " b"],
) -> Float[Array, ""]:
    """Return the weighted mean of the rows' cross-entropies, in nats.

    Args:
        logits: (b, c).
        targets: Class probabilities, (b, c).
        weights: Of the rows, (b,), not all 0.
    """
    rows = cross_entropies(logits, targets)
    return jnp.sum(weights * rows) / jnp.sum(weights)


def cross_entropies(
    logits: Float[Array, "b c"], targets: Float[Array, "b c"]
) -> Float[Array, " b"]:
    """Return each row's cross-entropy, in nats."""
    return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def count_correct(
    logits: Float[Array, "b c"],
    targets: Float[Array, "b c"],
    weights: Float[Array, " b"],
) -> Float[Array, ""]:
    """Return the summed weight of the rows whose likeliest class has the top score."""
    return jnp.sum(weights * (logits.argmax(-1) == targets.argmax(-1)))


def make_optimizer(
    settings: OptimizerSettings, steps: int
) -> optax.GradientTransformation:
    """Return AdamW with the reference's parameter groups and a warm-up cosine schedule.

    Args:
        settings: Rates and decay.
        steps: Batches of the whole run, at the end of which the cosine ends.
    """
    steps = max(steps // settings.accumulate, 1)
    rate = learning_rate(settings, settings.lr, steps)
    ssm_rate = learning_rate(settings, settings.ssm_lr, steps)
    adam = optax.multi_transform(
        {
            "state matrices": optax.adam(ssm_rate, b2=settings.b2),
            "undecayed": optax.adam(rate, b2=settings.b2),
            "regular": optax.adamw(
                rate, b2=settings.b2, weight_decay=settings.weight_decay
            ),
        },
        parameter_groups,
    )
    if settings.clip_norm > 0.0:
        adam = optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)
    if settings.accumulate == 1:
        return adam
    several = optax.MultiSteps(adam, every_k_schedule=settings.accumulate)
    return several.gradient_transformation()


def learning_rate(
    settings: OptimizerSettings, peak: float, steps: int
) -> optax.Schedule:
    """Return a linear rise to the peak, then a cosine to its final share."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=max(round(settings.warmup_share * steps), 1),
        decay_steps=max(steps, 2),
        end_value=settings.final_share * peak,
    )


def parameter_groups(params: Mapping[str, Any]) -> Any:
    """Return a tree like `params` with the name of each leaf's group."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: parameter_group(path[-1].key), params
    )


def parameter_group(leaf: str) -> str:
    """Return the group of the parameter leaf with this name."""
    if leaf in STATE_MATRICES:
        return "state matrices"
    return "undecayed" if leaf in UNDECAYED else "regular"
