"""Loads checkpoints from disk as models that the engine can serve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import jax
import numpy as np

from saccade.model.backends import BACKENDS, Backend, xla
from saccade.model.checkpoint import load
from saccade.model.classifier import fold, init_carry
from saccade.model.config import ModelConfig
from saccade.model.inference import Carry, Weights
from saccade.model.manifest import Manifest
from saccade.model.precision import SERVING_PRECISIONS
from saccade.server.engine.backend_choice import kept_ratio
from saccade.server.engine.model_registry import Canary, Servable, ServedModel
from saccade.server.engine.native_code import NativeCompiler, mark_compiled
from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)
VERSION_DIGITS: Final = 12

Progress = Callable[[str], None]


def load_models(
    paths: Sequence[Path],
    execution: str = "fastest",
    compiler: NativeCompiler | None = None,
    kept: Path | None = None,
    precisions: Mapping[str, str] = MappingProxyType({}),
) -> list[ServedModel]:
    """Load checkpoints.

    Args:
        paths: The checkpoints' folders.
        execution: The backend that runs the models, one of `BACKENDS`.
        compiler: Compiles native code meanwhile, if any process does.
        kept: A folder that keeps which backend is faster for each network. Native code
            is taken wherever it runs and XLA was not found to be faster.
        precisions: One of `SERVING_PRECISIONS` by the name of a model, and by `""` for
            the others; float32 without any.

    Raises:
        CheckpointError: A folder holds no sound checkpoint; names file and reason.
        ValueError: Two checkpoints have one name, there is no checkpoint, or a
            precision is for a model that is not among them.
    """
    choices = execution, compiler, kept, precisions
    models = [load_model(path, *choices) for path in paths]
    if not models:
        raise ValueError("there is no checkpoint to serve; name one with --model PATH")
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise ValueError(f"two checkpoints have one name: {', '.join(names)}")
    if unknown := sorted(precisions.keys() - {"", *names}):
        known = ", ".join(names)
        raise ValueError(f"a precision is for {unknown[0]!r}; the models are {known}")
    return models


def load_model(
    path: Path,
    execution: str = "fastest",
    compiler: NativeCompiler | None = None,
    kept: Path | None = None,
    precisions: Mapping[str, str] = MappingProxyType({}),
) -> ServedModel:
    """Load one checkpoint; arguments as for `load_models`.

    Raises:
        CheckpointError: The folder holds no sound checkpoint.
    """
    checkpoint = load(path)
    manifest = checkpoint.manifest
    variables = jax.device_put(checkpoint.variables)  # once, not with every call
    config = manifest.config
    precision = precisions.get(manifest.name, precisions.get("", "float32"))
    run = partial(BACKENDS[execution], precision=SERVING_PRECISIONS[precision])
    chosen, measured = _faster(config, fold(config, variables), run, kept)
    fresh = partial(init_carry, config, variables)
    servable = _servable(manifest, chosen, fresh, compiler)
    servable = servable._replace(matmul_precision=precision)
    facts = about("model_prepared", model=servable.key, backend=chosen.name)
    LOG.debug(
        "%s: executed as %s, %s", servable.key, chosen.name, precision, extra=facts
    )
    return ServedModel(
        servable=servable,
        labels=tuple(manifest.labels),
        tokenization=manifest.tokenization,
        timestep=manifest.timestep,
        content_hash=manifest.content_hash,
        folder=path,
        execution=execution,
        kept=kept,
        measured=measured,
    )


def _servable(
    manifest: Manifest,
    chosen: Backend,
    fresh: Callable[..., Carry],
    compiler: NativeCompiler | None,
) -> Servable:
    """Return what the engine needs of a checkpoint.

    Args:
        manifest: The checkpoint's.
        chosen: Runs the model.
        fresh: Returns the carry of a new session.
        compiler: Compiles native code meanwhile, if any process does.
    """
    config, by_rows, prepare = manifest.config, chosen.advance_rows, chosen.prepare
    return Servable(
        name=manifest.name,
        tick_events=config.tick_events,
        classes=config.num_classes,
        weights=chosen.weights,
        fresh=fresh,
        advance=partial(chosen.advance, config),
        canary=_canary_of(manifest),
        version=manifest.content_hash[:VERSION_DIGITS],
        advance_rows=partial(by_rows, config) if by_rows else None,
        prepare=partial(compile_native, prepare, compiler) if prepare else None,
        padding_cost=chosen.padding_cost,
        in_place=chosen.in_place,
    )


def _faster(
    config: ModelConfig,
    weights: Weights,
    run: Callable[..., Backend],
    kept: Path | None,
) -> tuple[Backend, bool]:
    """Return the backend to run, and whether it is known which one is faster here."""
    chosen = run(config, weights)
    if not chosen.prepare:
        return chosen, True
    ratio = None if kept is None else kept_ratio(config, kept)
    if ratio is None or ratio >= 1.0:
        return chosen, ratio is not None
    facts = about("model_prepared")
    LOG.debug("XLA is %.1f times faster here than native code", 1 / ratio, extra=facts)
    return xla(config, weights), True


def _canary_of(manifest: Manifest) -> Canary:
    stored = manifest.canary
    return Canary(
        np.asarray(stored.tokens, np.int32),
        np.asarray(stored.dt_ms, np.float32),
        np.asarray(stored.logits, np.float64),
    )


def compile_native(
    prepare: Callable[[Callable[[], None]], None],
    compiler: NativeCompiler | None,
    progress: Progress,
) -> None:
    """Compile native code, or wait for the process that does and read it from disk."""
    if compiler is not None:
        compiler.wait(progress)
    prepare(partial(progress, "native code"))
    mark_compiled()
