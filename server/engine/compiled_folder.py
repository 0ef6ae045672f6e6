"""The folder that keeps what is compiled, for the next process to find."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from saccade.server.logs import about

LOG: Final = logging.getLogger(__name__)


@contextmanager
def usable_folder(folder: Path) -> Iterator[Path]:
    """Return the folder, or a copy that lasts as long as the context.

    A folder that cannot be written, such as one of a container's image, is copied: the
    compilers would not even read from it. What is in it is still found.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        LOG.warning(
            "%s cannot be written (%s): what is compiled now is compiled again at the "
            "next start; name another folder with --compiled",
            folder,
            error.strerror,
            extra=about("not_kept", folder=str(folder)),
        )
        with tempfile.TemporaryDirectory(prefix="saccade-compiled-") as copy:
            if folder.is_dir():
                shutil.copytree(folder, copy, dirs_exist_ok=True)
            yield Path(copy)
        return
    yield folder
