"""From the authors' weights to a checkpoint that a server will believe."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np

from saccade.model.checkpoint import save
from saccade.model.classifier import Variables, expected_shapes, leaves, scan
from saccade.model.manifest import Canary, Manifest
from saccade.model.upstream.errors import Disagreement, LeavesDisagree
from saccade.model.upstream.files import UpstreamFile
from saccade.model.upstream.recipes import Recipe

CANARY_TICKS: Final = 3
SOURCE: Final = "Schöne et al. 2024, arXiv:2404.18508"


def check(source: UpstreamFile, recipe: Recipe) -> None:
    """Confirm that a file holds just the leaves of the recipe's network.

    Raises:
        LeavesDisagree: One is missing, unexpected or of another shape; names them all.
    """
    expected = expected_shapes(recipe.config)
    found = {name: leaf.shape for name, leaf in leaves(source.variables).items()}
    disagreements = [
        Disagreement(name, expected.get(name), found.get(name))
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
    if disagreements:
        raise LeavesDisagree(source.path, recipe.name, disagreements)


def convert(
    source: UpstreamFile,
    recipe: Recipe,
    out: Path,
    name: str,
    provenance: Mapping[str, Any],
) -> Manifest:
    """Write the checkpoint.

    Args:
        source: What was read.
        recipe: What it is.
        out: The new checkpoint's folder; one that is there is replaced.
        name: The name that clients will ask for.
        provenance: What to say of its origin beyond what the file says.

    Raises:
        LeavesDisagree: The file is not of this recipe.
    """
    check(source, recipe)
    notes = {"note": recipe.note} if recipe.note else {}
    manifest = Manifest(
        name=name,
        labels=recipe.labels,
        config=recipe.config,
        tokenization=recipe.tokenization,
        timestep=recipe.timestep,
        canary=canary(recipe, source.variables),
        provenance={
            **provenance,
            "reference": SOURCE,
            "config": Path(recipe.name).name if "." in recipe.name else recipe.name,
            "imported_from": source.path.name,
            "layout": source.layout,
            "step": source.step,
            **notes,
        },
    )
    return save(out, manifest, source.variables)


def canary(recipe: Recipe, variables: Variables) -> Canary:
    """Return a few ticks of random events and the scores after them."""
    rng = np.random.default_rng(0)
    length = CANARY_TICKS * recipe.config.tick_events
    tokens = rng.integers(0, recipe.tokenization.num_tokens, length).astype(np.int32)
    dt_ms = (rng.integers(0, 2000, length) / 1000).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(partial(scan, recipe.config))(variables, tokens, dt_ms)
    return Canary(
        tokens=tuple(tokens.tolist()),
        dt_ms=tuple(dt_ms.tolist()),
        logits=tuple(np.asarray(logits).tolist()),
    )
