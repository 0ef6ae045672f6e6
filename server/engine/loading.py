"""Loads checkpoints from disk as models that the engine can serve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

import jax
import numpy as np

from saccade.model.backends import BACKENDS, xla
from saccade.model.checkpoint import load
from saccade.model.classifier import fold, init_carry
from saccade.model.config import ModelConfig
from saccade.model.inference import Weights
from saccade.model.manifest import Manifest
from saccade.server.engine.backend_choice import Choice
from saccade.server.engine.model_registry import Canary, Servable, ServedModel
from saccade.server.engine.native_code import NativeCompiler

LOG: Final = logging.getLogger(__name__)
VERSION_DIGITS: Final = 12

Progress = Callable[[str], None]


def released() -> list[Path]:
    """Return the folders of the checkpoints that come with Saccade."""
    root = Path(str(resources.files("saccade.checkpoints")))
    return sorted(path.parent for path in root.glob("*/manifest.json"))


def load_models(
    paths: Sequence[Path],
    execution: str = "fastest",
    compiler: NativeCompiler | None = None,
    kept: Path | None = None,
) -> list[ServedModel]:
    """Load checkpoints, the released ones where no path is given.

    Args:
        paths: The checkpoints' folders.
        execution: The backend that runs the models, one of `BACKENDS`.
        compiler: Compiles native code meanwhile, if any process does.
        kept: A folder that keeps which backend is faster for each network; without it
            native code is taken wherever it runs.

    Raises:
        CheckpointError: A folder holds no sound checkpoint; names file and reason.
        ValueError: Two checkpoints have one name, or there is no checkpoint.
    """
    models = [
        load_model(path, execution, compiler, kept) for path in paths or released()
    ]
    if not models:
        raise ValueError("there is no checkpoint to serve; name one with --model PATH")
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"two checkpoints have one name: {', '.join(names)}")
    return models


def load_model(
    path: Path,
    execution: str = "fastest",
    compiler: NativeCompiler | None = None,
    kept: Path | None = None,
) -> ServedModel:
    """Load one checkpoint; arguments as for `load_models`.

    Raises:
        CheckpointError: The folder holds no sound checkpoint.
    """
    checkpoint = load(path)
    manifest = checkpoint.manifest
    variables = jax.device_put(checkpoint.variables)  # once, not with every call
    config = manifest.config
    chosen = BACKENDS[execution](config, fold(config, variables))
    servable = Servable(
        name=manifest.name,
        tick_events=config.tick_events,
        classes=config.num_classes,
        weights=chosen.weights,
        fresh=partial(init_carry, config, variables),
        advance=partial(chosen.advance, config),
        canary=_canary_of(manifest),
        version=manifest.content_hash[:VERSION_DIGITS],
        advance_rows=partial(chosen.advance_rows, config)
        if chosen.advance_rows
        else None,
    )
    if chosen.prepare:
        compiling = partial(compile_native, chosen.prepare, compiler)
        weights = partial(fold, config, variables)
        choice = None if kept is None else Choice(config, weights, kept)
        on_xla = partial(_on_xla, servable, config, weights)
        prepare = partial(_on_the_faster, servable, compiling, choice, on_xla)
        servable = servable._replace(prepare=prepare)
    LOG.info("%s: executed as %s", servable.key, chosen.name)
    return ServedModel(
        servable=servable,
        labels=tuple(manifest.labels),
        tokenization=manifest.tokenization,
        timestep=manifest.timestep,
        content_hash=manifest.content_hash,
        folder=path,
        execution=execution,
        kept=kept,
    )


def _canary_of(manifest: Manifest) -> Canary:
    stored = manifest.canary
    return Canary(
        np.asarray(stored.tokens, np.int32),
        np.asarray(stored.dt_ms, np.float32),
        np.asarray(stored.logits, np.float64),
    )


def _on_the_faster(
    servable: Servable,
    compiling: Callable[[Progress], None],
    choice: Choice | None,
    on_xla: Callable[[], Servable],
    progress: Progress,
) -> Servable:
    """Compile native code; return the model that runs it, or the same on XLA."""
    ready = partial(compiling, progress)
    if choice is not None and not choice.native_is_faster(ready):
        LOG.info("%s: executed as xla, which is faster here", servable.key)
        return on_xla()
    ready()
    return servable


def _on_xla(
    servable: Servable, config: ModelConfig, weights: Callable[[], Weights]
) -> Servable:
    backend = xla(config, weights())
    move = partial(backend.advance, config)
    return servable._replace(weights=backend.weights, advance=move, advance_rows=None)


def compile_native(
    prepare: Callable[[Callable[[], None]], None],
    compiler: NativeCompiler | None,
    progress: Progress,
) -> None:
    """Compile native code, or wait for the process that does and read it from disk."""
    if compiler is not None:
        compiler.wait(progress)
    prepare(partial(progress, "native code"))
