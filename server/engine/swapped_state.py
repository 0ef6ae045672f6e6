"""The state of a stream without a slot, kept in the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from saccade.model.tokens import TokenChunk
from saccade.server.engine.outputs import RowState

OnRow: TypeAlias = Callable[[RowState | None], None]
"""Receives a stream's row, or None where no event of the stream ever came."""


class SwappedState:
    """A row, then in their order the events and the export requests that came after it.

    There is no row at a stream's beginning, nor while it is on its way to the host.
    """

    def __init__(self, row: RowState | None = None) -> None:
        self.row = row
        self.items: list[TokenChunk | OnRow] = []

    @property
    def events(self) -> int:
        """Events that wait in the row."""
        return 0 if self.row is None else len(self.row.waiting.tokens)

    @property
    def pending_exports(self) -> bool:
        """Whether an export waits until the stream has a row."""
        return any(not isinstance(item, TokenChunk) for item in self.items)

    def add(self, item: TokenChunk | OnRow) -> None:
        """Add events, or an export request, at the end."""
        self.items.append(item)

    def complete(self, row: RowState) -> None:
        """Take the row once it has reached the host, and answer the waiting exports."""
        self.row = row
        items, self.items = self.items, []
        for item in items:
            if isinstance(item, TokenChunk):
                self.items.append(item)
            else:
                self.export(item)

    def export(self, done: OnRow) -> None:
        """Call `done` with the row and all events that wait.

        A stream that has events and never had a slot has no row; the export waits
        until the stream has one.
        """
        chunks = [item for item in self.items if isinstance(item, TokenChunk)]
        if self.row is not None:
            done(RowState(self.row.leaves, _joined([self.row.waiting, *chunks])))
        elif chunks:
            self.add(done)
        else:
            done(None)


def _joined(chunks: list[TokenChunk]) -> TokenChunk:
    return TokenChunk(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
