"""Files that clients send: on disk while they are read, within a limit for all."""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

from saccade.server.transport.multipart import MultipartForm
from saccade.server.transport.problems import Problem

PREFIX: Final = "saccade-uploads-"
LOCK: Final = "lock"
FRESH_S: Final = 60.0
"""A folder so young may belong to a process that has not locked it yet."""
BATCH_BYTES: Final = 1 << 18
"""The bytes that are collected before a thread parses and writes them."""


class UploadFolder:
    """One process's folder of what clients have sent, made when it is first needed.

    It lies where TMPDIR says. A process that was killed leaves its folder behind; the
    next that makes one removes it.

    Args:
        limit: Bytes that all uploads together may take.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0
        """Bytes that wait on disk now."""
        self._root: Path | None = None
        self._lock: TextIO | None = None
        self._making = threading.Lock()

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[Upload]:
        """Make the folder of one request's files, and remove it in the end.

        Raises:
            Problem: The disk takes nothing.
        """
        with _disk_errors():
            path = await asyncio.to_thread(self._new_folder)
        upload = Upload(path, self)
        try:
            yield upload
        finally:
            self.used -= upload.size
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    def reserve(self, size: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            Problem: There are too many.
        """
        if self.used + size > self._limit:
            detail = "other requests' files take all the room that there is for them"
            raise Problem(503, "uploads_full", f"{detail}; try again later")
        self.used += size

    def close(self) -> None:
        """Remove the folder."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _new_folder(self) -> Path:
        with self._making:
            if self._root is None:
                remove_abandoned(Path(tempfile.gettempdir()))
                root = Path(tempfile.mkdtemp(prefix=PREFIX))
                self._lock = (root / LOCK).open("w")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                self._root = root
        return Path(tempfile.mkdtemp(dir=self._root))


class Upload:
    """The folder of one request's files.

    Args:
        path: The folder.
        shared: Counts its bytes among all others'.
    """

    def __init__(self, path: Path, shared: UploadFolder) -> None:
        self.path = path
        self.size = 0
        self._shared = shared

    def reserve(self, size: int) -> None:
        """Count bytes that are about to be written; raises as the shared folder."""
        self._shared.reserve(size)
        self.size += size


def remove_abandoned(folder: Path) -> None:
    """Remove from a folder what no process holds the lock of any more."""
    for root in folder.glob(f"{PREFIX}*"):
        with suppress(OSError), (root / LOCK).open("r+") as lock:
            if is_abandoned(root):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)


def is_abandoned(root: Path) -> bool:
    """Return whether a folder is older than the moment that its lock takes."""
    return time.time() - root.stat().st_mtime > FRESH_S


async def receive_form(
    pieces: AsyncIterator[bytes], form: MultipartForm, upload: Upload
) -> None:
    """Parse a form's body, and write its files, on another thread.

    Raises:
        Problem: The body is malformed, or the disk is full.
    """
    batch = bytearray()

    async def flush() -> None:
        with _disk_errors():
            await asyncio.to_thread(form.feed, bytes(batch))
        batch.clear()

    try:
        async for piece in pieces:
            upload.reserve(len(piece))
            batch += piece
            if len(batch) >= BATCH_BYTES:
                await flush()
        await flush()
        form.finish()
    finally:
        form.close()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn what a full or read-only disk raises into a problem."""
    try:
        yield
    except OSError as error:
        detail = f"files cannot be kept: {error.strerror or error}; see TMPDIR"
        raise Problem(503, "uploads_full", detail) from error
