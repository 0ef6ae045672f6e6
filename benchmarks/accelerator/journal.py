"""The result of a run, on disk after every step, and the steps that still fit."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Unavailable(Exception):
    """A step cannot run, since an earlier one did not; the text says which."""


class Step(NamedTuple):
    """One part of a run.

    Attributes:
        name: Its name in the result.
        planned_s: What it takes at most.
        run: Measures; returns plain JSON values.
    """

    name: str
    planned_s: float
    run: Callable[[], Any]


class Journal:
    """Runs steps one after another, and writes the result after each.

    Args:
        facts: What the result begins with.
        limit_s: How long the whole run may take.
        path: The file; None keeps the result in memory alone.
    """

    def __init__(
        self, facts: dict[str, Any], limit_s: float, path: Path | None
    ) -> None:
        self._began_s = time.monotonic()
        self._limit_s, self._path = limit_s, path
        self.result: dict[str, Any] = {
            **facts,
            "limit_s": limit_s,
            "complete": False,
            "under_way": None,
            "steps": {},
        }

    @property
    def failed(self) -> bool:
        """Whether a step has failed."""
        return any(one["state"] == "failed" for one in self.result["steps"].values())

    def run(self, steps: list[Step]) -> None:
        """Run what fits into the limit."""
        for step in steps:
            self.result["under_way"] = step.name
            self._write()
            self._say(f"{step.name} …")
            began_s = time.monotonic()
            outcome = self._outcome(step)
            outcome["seconds"] = time.monotonic() - began_s
            self.result["steps"][step.name] = outcome
            if outcome["state"] != "done":
                self._say(f"{step.name} {outcome['state']}: {outcome['reason']}")
        self.result |= {"complete": True, "under_way": None}
        self.result["seconds"] = time.monotonic() - self._began_s
        self._write()

    def progress(self, what: str) -> None:
        """Show what a step is doing."""
        self._say(f"  {what}")

    def _outcome(self, step: Step) -> dict[str, Any]:
        left_s = self._limit_s - (time.monotonic() - self._began_s)
        if step.planned_s > left_s:
            reason = (
                f"it may take {step.planned_s:.0f} s, and {max(left_s, 0.0):.0f} s of "
                f"{self._limit_s:.0f} are left; --limit-s allows more"
            )
            return {"state": "skipped", "reason": reason}
        try:
            return {"state": "done", "result": step.run()}
        except Unavailable as error:
            return {"state": "skipped", "reason": str(error)}
        except Exception as error:  # the steps after it still measure
            reason = f"{type(error).__name__}: {str(error)[:2000]}"
            return {"state": "failed", "reason": reason}

    def _say(self, line: str) -> None:
        elapsed_s = time.monotonic() - self._began_s
        sys.stderr.write(f"{elapsed_s:6.1f} s  {line}\n")

    def _write(self) -> None:
        """Replace the file at once, so that it is whole whenever the run is killed."""
        if self._path is None:
            return
        written = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        written.write_text(json.dumps(self.result, indent=1) + "\n")
        written.replace(self._path)
