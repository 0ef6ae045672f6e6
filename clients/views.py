"""What every view of a stream can do."""

from __future__ import annotations

from typing import Protocol, Self

from saccade.clients.tally import Snapshot, Summary
from saccade.server.protocol.messages import Result


class View(Protocol):
    """Something that shows a stream to its user, entered while it plays."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, *error: object) -> None:
        """Leave the terminal as it was."""
        ...

    def heard(self, result: Result) -> None:
        """Take note of one result."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand; called about twelve times a second."""
        ...

    def finish(self, summary: Summary) -> None:
        """Say how it went."""
        ...
