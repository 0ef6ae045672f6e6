"""Conversion of the authors' weights to a checkpoint that a server accepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from saccade.model.checkpoint import save
from saccade.model.classifier import Variables, expected_shapes, leaves
from saccade.model.manifest import CANARY_TICKS, Canary, Manifest, make_canary
from saccade.model.upstream.errors import Disagreement, LeavesDisagree
from saccade.model.upstream.files import UpstreamFile
from saccade.model.upstream.recipes import Recipe

SOURCE: Final = "Schöne et al. 2024, arXiv:2404.18508"


def check(source: UpstreamFile, recipe: Recipe) -> None:
    """Check that a file holds exactly the leaves of the recipe's network.

    Raises:
        LeavesDisagree: Leaves are missing, unexpected or of another shape.
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
        source: The file that was read.
        recipe: The network, its task and its tokens.
        out: The new checkpoint's folder; an existing one is replaced.
        name: The name that clients ask for.
        provenance: Of this conversion: command and packages.

    Raises:
        LeavesDisagree: The file is of another network.
    """
    check(source, recipe)
    notes = {"note": recipe.note} if recipe.note else {}
    manifest = Manifest(
        name=name,
        labels=recipe.labels,
        config=recipe.config,
        tokenization=recipe.tokenization,
        timestep=recipe.timestep,
        canary=random_canary(recipe, source.variables),
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


def random_canary(recipe: Recipe, variables: Variables) -> Canary:
    """Return a canary of random events."""
    rng = np.random.default_rng(0)
    length = CANARY_TICKS * recipe.config.tick_events
    tokens = rng.integers(0, recipe.tokenization.num_tokens, length).astype(np.int32)
    dt_ms = (rng.integers(0, 2000, length) / 1000).astype(np.float32)
    return make_canary(recipe.config, variables, tokens, dt_ms)
