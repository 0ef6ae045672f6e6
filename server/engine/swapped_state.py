"""What a stream without a slot keeps in the host's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from saccade.model.tokens import TokenChunk
from saccade.server.engine.outputs import RowState

Done: TypeAlias = Callable[[RowState | None], None]
"""Hears a stream's row, or None where no event of it ever came."""


class SwappedState:
    """A row, and in their order the events and the questions that came after it.

    There is no row at a stream's beginning, nor while it is on its way.
    """

    def __init__(self, row: RowState | None = None) -> None:
        self.row = row
        self.items: list[TokenChunk | Done] = []

    @property
    def events(self) -> int:
        """Events that wait in the row."""
        return 0 if self.row is None else len(self.row.waiting.tokens)

    @property
    def questions(self) -> bool:
        """Whether somebody waits to see the row."""
        return any(not isinstance(item, TokenChunk) for item in self.items)

    def add(self, item: TokenChunk | Done) -> None:
        """Take in events, or a question."""
        self.items.append(item)

    def pack(self, row: RowState) -> None:
        """Take in the row once it has come, and answer what was asked meanwhile."""
        self.row = row
        items, self.items = self.items, []
        for item in items:
            if isinstance(item, TokenChunk):
                self.items.append(item)
            else:
                self.show(item)

    def show(self, done: Done) -> None:
        """Give the row with all that waits.

        A stream that has events and never had a slot has no row; the question waits
        until it has one.
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
