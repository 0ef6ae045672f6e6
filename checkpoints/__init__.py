"""Released weights, one folder each with its model card."""

from importlib import resources
from pathlib import Path


def released() -> list[Path]:
    """Return the folders of the checkpoints that come with Saccade."""
    root = Path(str(resources.files(__name__)))
    return sorted(path.parent for path in root.glob("*/manifest.json"))
