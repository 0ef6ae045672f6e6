"""`saccade import-upstream`: make a servable checkpoint of the authors' own."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from saccade.model.checkpoint import CheckpointError
from saccade.model.manifest import Manifest
from saccade.model.upstream.conversion import convert
from saccade.model.upstream.files import read
from saccade.model.upstream.recipes import Recipe, presets, recipe

FAILED: Final = 1
PACKAGES: Final = ("saccade", "jax", "jaxlib", "flax", "numpy")


def import_upstream(argv: Sequence[str]) -> int:
    """Make a Saccade checkpoint of one that the reference's trainer wrote."""
    arguments = parser().parse_args(argv)
    out: Path = arguments.out
    try:
        chosen = recipe(arguments.config, arguments.labels)
        source = read(arguments.path)
        origin = {
            "command": f"saccade import-upstream {shlex.join(_portable(argv))}",
            "packages": {name: version(name) for name in PACKAGES},
        }
        name = arguments.name or out.absolute().name
        manifest = convert(source, chosen, out, name, origin)
    except (CheckpointError, OSError) as error:
        sys.stderr.write(f"saccade import-upstream: {error}\n")
        return FAILED
    sys.stdout.write(_summary(out, manifest, chosen))
    return 0


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="saccade import-upstream", description=import_upstream.__doc__
    )
    result.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help="checkpoint_N, or the folder of a run: its newest is taken",
    )
    result.add_argument(
        "--config",
        required=True,
        metavar="NAME",
        help=f"{', '.join(presets())}; or a .yaml file in the reference's form",
    )
    result.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="where to write"
    )
    result.add_argument(
        "--name", help="what clients ask for (default: the name of DIR)"
    )
    result.add_argument(
        "--labels",
        type=lambda text: text.split(","),
        metavar="A,B,…",
        help="the classes, in the order of the logits (default: the task's)",
    )
    return result


def _portable(argv: Sequence[str]) -> list[str]:
    """Shorten absolute paths to their last part: the command goes into a manifest."""
    return [Path(word).name if Path(word).is_absolute() else word for word in argv]


def _summary(out: Path, manifest: Manifest, recipe: Recipe) -> str:
    config = manifest.config
    lines = [
        f"{out}: {manifest.name}, {len(manifest.labels)} classes, "
        f"a tick is {config.tick_events} events, sha256 {manifest.content_hash[:12]}",
        *([f"note: {recipe.note}"] if recipe.note else []),
        f"serve it: saccade serve --model {shlex.quote(str(out))}",
    ]
    return "\n".join(lines) + "\n"
