"""The published configurations that `benchmarks.engine` measures."""

from __future__ import annotations

from typing import Final

from saccade.model.config import ModelConfig
from saccade.model.upstream.recipes import recipe

NAMES: Final = ("dvs/small", "shd/medium", "ssc/medium")
CONFIGURATIONS: Final[dict[str, ModelConfig]] = {
    name: recipe(name).config for name in NAMES
}
