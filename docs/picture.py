"""Draw the README's picture: the live view of a simulated camera's stream, as SVG.

python docs/picture.py ws://127.0.0.1:8000 docs/terminal.svg
"""

from __future__ import annotations

import asyncio
import re
import sys
from io import StringIO
from pathlib import Path
from typing import Self

from rich.console import Console

from saccade.clients.commands.playback import Playback, run
from saccade.clients.commands.stream import FRAME_US, default_readout
from saccade.clients.connection import Choices
from saccade.clients.display.live import picture
from saccade.clients.display.statistics import Snapshot, Summary
from saccade.clients.pacing import by_time
from saccade.clients.sources import open_source
from saccade.server.protocol.messages import Result

SOURCE = "sim:motions?seed=11&seconds=15"
COLUMNS = 88


class LastPicture:
    """A view that keeps the newest snapshot and shows nothing."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def add(self, result: Result) -> None:
        """Do nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """Keep the snapshot."""
        self.snapshot = snapshot

    def finish(self, summary: Summary) -> None:
        """Do nothing."""


def main(url: str, path: str) -> None:
    """Stream SOURCE to the server at `url`, and write the picture to `path`."""
    source = open_source(SOURCE, None)
    frames = by_time(source.chunks, FRAME_US)
    playback = Playback(url, source.model or "motions", source, frames, 1.0)
    choices = Choices(
        sensor=source.sensor, fit="scale", readout=default_readout(source)
    )
    view = LastPicture()
    print(asyncio.run(run(playback, view, choices, print)))
    assert view.snapshot is not None
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(picture(view.snapshot))
    svg = console.export_svg(title="saccade stream sim:motions")
    # The picture must not depend on a font from elsewhere.
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg)
    Path(path).write_text(svg)


if __name__ == "__main__":
    main(*sys.argv[1:])
