"""What training minimises, and the optimiser that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from saccade.model.training.settings import OptimizerSettings

STATE_MATRICES: Final = frozenset({"B", "Lambda_re", "Lambda_im"})
"""Learn at `ssm_lr`, undecayed: they decide which memories last how long."""

UNDECAYED: Final = frozenset({"log_step"})
"""Learn at `lr`, undecayed: 0 is no natural value of a logarithm."""


def smooth(targets: Float[Array, "b c"], amount: float) -> Float[Array, "b c"]:
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


def correct(
    logits: Float[Array, "b c"],
    targets: Float[Array, "b c"],
    weights: Float[Array, " b"],
) -> Float[Array, ""]:
    """Return how many rows, by weight, have their likeliest class on top."""
    return jnp.sum(weights * (logits.argmax(-1) == targets.argmax(-1)))


def optimizer(settings: OptimizerSettings, steps: int) -> optax.GradientTransformation:
    """Return AdamW with the reference's parameter groups, warmed up and cosine-cooled.

    Args:
        settings: Rates and decay.
        steps: Batches of the whole run: where the cosine ends.
    """
    steps = max(steps // settings.accumulate, 1)
    rate = schedule(settings, settings.lr, steps)
    ssm_rate = schedule(settings, settings.ssm_lr, steps)
    adam = optax.multi_transform(
        {
            "state matrices": optax.adam(ssm_rate, b2=settings.b2),
            "undecayed": optax.adam(rate, b2=settings.b2),
            "regular": optax.adamw(
                rate, b2=settings.b2, weight_decay=settings.weight_decay
            ),
        },
        groups,
    )
    if settings.clip_norm > 0.0:
        adam = optax.chain(optax.clip_by_global_norm(settings.clip_norm), adam)
    if settings.accumulate == 1:
        return adam
    several = optax.MultiSteps(adam, every_k_schedule=settings.accumulate)
    return several.gradient_transformation()


def schedule(settings: OptimizerSettings, peak: float, steps: int) -> optax.Schedule:
    """Rise linearly to the peak, then fall along a cosine to its final share."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=peak,
        warmup_steps=max(round(settings.warmup_share * steps), 1),
        decay_steps=max(steps, 2),
        end_value=settings.final_share * peak,
    )


def groups(params: Mapping[str, Any]) -> Any:
    """Return a tree like `params` with the name of each leaf's group."""
    return jax.tree_util.tree_map_with_path(lambda path, _: group(path[-1].key), params)


def group(leaf: str) -> str:
    """Return the group of a parameter by its own name."""
    if leaf in STATE_MATRICES:
        return "state matrices"
    return "undecayed" if leaf in UNDECAYED else "regular"
