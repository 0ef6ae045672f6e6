"""Runs a module as on a machine that has few packages: `bare.py MODULE [ARGUMENT …]`.

Importing anything but the standard library, this project, the packages of `PRESENT` and
what these need raises `ModuleNotFoundError`; and our own modules may import none but
`PRESENT`, so that they do not lean on what another package happens to bring.
"""

from __future__ import annotations

import builtins
import re
import runpy
import sys
from importlib import metadata
from typing import Any, Final

PRESENT: Final = ("jax", "flax", "numpy", "numba", "msgpack", "prometheus-client")
OURS: Final = ("saccade", "benchmarks", "tests")
WITH_THEM: Final = {"jaxlib", "llvmlite"}
"""Parts of jax and numba that have distributions of their own."""
NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def needed(names: tuple[str, ...]) -> set[str]:
    """Return these distributions and all that they need, by normalized names."""
    found: set[str] = set()
    waiting = [*names]
    while waiting:
        name = normal(waiting.pop())
        if name in found:
            continue
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for line in wanted:
            if "extra ==" not in line and (match := NAME.match(line)):
                waiting.append(match[0])
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class Missing:
    """Finds nothing, and stops the import of what such a machine lacks."""

    def __init__(self) -> None:
        present = needed(PRESENT)
        self._lacking = {
            module
            for module, owners in metadata.packages_distributions().items()
            if not present & {normal(owner) for owner in owners}
        } - {*OURS, *sys.stdlib_module_names}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self._lacking:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def strict(importing: Any) -> Any:
    """Return an `__import__` that lets our modules import `PRESENT` alone."""
    allowed = {name.replace("-", "_") for name in PRESENT} | WITH_THEM | {*OURS}

    def run(name: str, scope: Any = None, *rest: Any, **named: Any) -> Any:
        level = rest[2] if len(rest) > 2 else named.get("level", 0)
        top, importer = name.partition(".")[0], (scope or {}).get("__name__", "")
        ours = importer.partition(".")[0] in OURS
        known = top in allowed or top in sys.stdlib_module_names
        if ours and not level and not known:
            raise ModuleNotFoundError(f"{importer} imports {name!r}", name=name)
        return importing(name, scope, *rest, **named)

    return run


if __name__ == "__main__":
    module, *sys.argv[1:] = sys.argv[1:]
    sys.meta_path.insert(0, Missing())  # type: ignore[arg-type]
    builtins.__import__ = strict(builtins.__import__)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
