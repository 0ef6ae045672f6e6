"""A folder as many users have it: with modules named as Saccade's own folders are."""

from __future__ import annotations

from pathlib import Path

TAKEN = "raise ImportError('the module of a user')\n"


def make_own_folder(folder: Path) -> Path:
    """Write `model.py`, `server/`, `clients.py` and `checkpoints/`; none imports."""
    for name in ("model.py", "clients.py", "server/__init__.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TAKEN)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.txt").write_text("weights\n")
    return folder
