"""Errors of importing the authors' checkpoints.

CheckpointError
└── UpstreamError
    ├── UpstreamMissing      there is no such file, or no checkpoint in the folder
    ├── UnknownLayout        the file is no checkpoint of the reference's trainer
    ├── UpstreamDamaged      the checkpoint cannot be read, or holds NaN
    ├── LeavesDisagree       the checkpoint's leaves are not the configuration's
    ├── UnknownRecipe        no configuration has this name
    └── InvalidRecipe        the configuration's file is incomplete or wrong
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from saccade.model.checkpoint import CheckpointError
from saccade.model.classifier import Shape

LISTED: Final = 8
"""Number of disagreements in a message; a wrong configuration has hundreds."""


class UpstreamError(CheckpointError):
    """A checkpoint of the authors' that cannot be imported."""


class UpstreamMissing(UpstreamError):
    """There is no checkpoint at this path."""


class UnknownLayout(UpstreamError):
    """The file is no checkpoint of the reference's trainer."""


class UpstreamDamaged(UpstreamError):
    """The checkpoint cannot be read, or its arrays cannot be used."""


class Disagreement(NamedTuple):
    """One leaf that differs from the configuration.

    Attributes:
        leaf: Its path, as in `params/decoder/bias`.
        expected: The configuration's shape; None where it has no such leaf.
        found: The file's shape; None where it has no such leaf.
    """

    leaf: str
    expected: Shape | None
    found: Shape | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.leaf} is missing; expected {self.expected}"
        if self.expected is None:
            return f"{self.leaf} {self.found} is not of this model"
        return f"{self.leaf} has shape {self.found}; expected {self.expected}"


class LeavesDisagree(UpstreamError):
    """The checkpoint's leaves differ from the configuration's."""

    def __init__(
        self, path: Path, recipe: str, disagreements: Sequence[Disagreement]
    ) -> None:
        self.recipe = recipe
        self.disagreements = tuple(disagreements)
        lines = [f"  {one}" for one in self.disagreements[:LISTED]]
        if len(self.disagreements) > LISTED:
            lines.append(f"  and {len(self.disagreements) - LISTED} more")
        leaves = "leaf is" if len(self.disagreements) == 1 else "leaves are"
        super().__init__(
            path,
            "\n".join(
                [f"{len(self.disagreements)} {leaves} not as {recipe} says:", *lines]
            ),
        )


class UnknownRecipe(UpstreamError):
    """No configuration has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}? " if near else ""
        super().__init__(
            Path(name),
            f"there is no such configuration; {hint}"
            f"known: {', '.join(known)}, or a .yaml file",
        )


class InvalidRecipe(UpstreamError):
    """A configuration's file is incomplete or wrong."""
