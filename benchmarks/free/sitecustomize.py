"""Installs `benchmarks.free_backend` in a process, once that imports the backends.

Python imports this module at its start where its folder is on the path. A process that
never imports the backends, and so needs no JAX, stays as it is.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

BACKENDS: Final = "saccade.model.backends"


class FreeBackend(MetaPathFinder):
    """Changes the table of backends right after its module is executed."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the backends' module, which installs this one; None for another."""
        if fullname != BACKENDS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_install(module: ModuleType) -> None:
            execute(module)
            sys.modules[BACKENDS] = module
            from benchmarks.free_backend import install

            install()

        spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, FreeBackend())
