"""The progress of a start, on the terminal: one line that changes, or plain lines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Final, Self, TextIO, TypeAlias

ERASE_LINE: Final = "\r\x1b[K"


class ProgressLine:
    """Shows what is being done; a terminal's line is erased when the context is left.

    Args:
        stream: A terminal, whose line is written over, or a file, which gets a line for
            each stage.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changes = stream.isatty()
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._changes and self._shown:
            self._write(ERASE_LINE)

    def show(self, stage: str, detail: str = "") -> None:
        """Show a stage of the start, and on a terminal what is done in it."""
        text = f"{stage}: {detail}" if detail and self._changes else stage
        if text == self._shown:
            return
        self._shown = text
        if self._changes:
            columns = shutil.get_terminal_size().columns
            self._write(f"{ERASE_LINE}{text[: columns - 1]}")
        else:
            self._write(f"saccade serve: {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class ProgressLog:
    """Gives each stage of a start to the log.

    Args:
        write: Takes a stage.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave what is logged."""

    def show(self, stage: str, detail: str = "") -> None:
        """Log a stage, once."""
        if stage != self._shown:
            self._shown = stage
            self._write(stage)


Progress: TypeAlias = ProgressLine | ProgressLog
