"""`saccade download`: fetch a task's data set, check its MD5 sums, and unpack it."""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import pooch
import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TimeRemainingColumn,
)

from saccade.model.training.errors import CannotDownload, TrainingError
from saccade.model.training.tasks import dvs_gesture, nmnist, spiking

FAILED: Final = 1
SUMS_FILE: Final = "md5sums.txt"
ARCHIVES: Final = (".zip", ".gz")
CHUNK_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 30.0
DAMAGES: Final = (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error)
PUBLISHER_URL: Final = "https://zenkelab.org/datasets"

SUMS: Final[Mapping[str, Mapping[str, str]]] = {
    "spiking-heidelberg-digits": {
        "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
        "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
    },
    "spiking-speech-commands": {
        "ssc_train.h5.zip": "d102be95e7144fcc0553d1f45ba94170",
        "ssc_valid.h5.zip": "b4eee3516a4a90dd0c71a6ac23a8ae43",
        "ssc_test.h5.zip": "a35ff1e9cffdd02a20eb850c17c37748",
    },
}
"""The publisher's archives of each task, with their MD5 sums."""

BY_HAND: Final = {
    "nmnist": nmnist.INSTRUCTIONS,
    "dvs-gesture": dvs_gesture.INSTRUCTIONS,
}
"""Tasks with a publisher that hands out data sets through a web page only."""


class Archive(NamedTuple):
    """One packed file of a data set; `file` is its name once unpacked."""

    file: str
    url: str
    md5: str


def download(argv: Sequence[str]) -> int:
    """Fetch a task's data set, check it by the publisher's sums, and unpack it."""
    arguments = parser().parse_args(argv)
    if arguments.task in BY_HAND:
        sys.stderr.write(
            f"saccade download: the publisher of {arguments.task} gives it to people "
            f"only.\n{BY_HAND[arguments.task]}\n"
        )
        return FAILED
    try:
        fetched = fetch(arguments.task, arguments.out, arguments.source)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"saccade download: {error}\n")
        return FAILED
    present = len(SUMS[arguments.task]) - len(fetched)
    sys.stdout.write(
        f"{spiking.SOURCE.format(arguments.task)}\n"
        f"{len(fetched)} files fetched and checked, {present} were there\n"
        f"saccade train task={arguments.task} data_dir={arguments.out}\n"
    )
    return 0


def fetch(task: str, folder: Path, source: str | None = None) -> list[Path]:
    """Fetch the files of a data set that a folder lacks.

    A file appears under its name only when it is whole and its archive has the
    expected MD5 sum.

    Args:
        task: A key of `SUMS`.
        folder: Destination of the unpacked files.
        source: URL of a mirror with a `md5sums.txt` of its own; None takes the
            publisher's archives, whose sums are in `SUMS`.

    Returns:
        The files that were fetched.

    Raises:
        CannotDownload: The source is not reachable, lacks an archive or its sum, or
            sends an archive with another sum.
        OSError: The folder cannot be written.
    """
    files = [Path(archive).stem for archive in SUMS[task]]
    missing = [name for name in files if not (folder / name).exists()]
    if not missing:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    url = (source or PUBLISHER_URL).rstrip("/")
    sums = _listed_sums(url) if source else SUMS[task]
    columns = ("{task.description}", BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        return [
            _fetch_file(_archive(name, url, sums), folder, progress) for name in missing
        ]


def _listed_sums(url: str) -> dict[str, str]:
    """Return the sums in a mirror's `md5sums.txt`, by archive name."""
    try:
        response = requests.get(f"{url}/{SUMS_FILE}", timeout=TIMEOUT_S)
        response.raise_for_status()
    except requests.RequestException as error:
        raise CannotDownload(f"{url}/{SUMS_FILE}", _reason(error)) from None
    pairs = [line.split() for line in response.text.splitlines()]
    return {pair[1].lstrip("*"): pair[0].lower() for pair in pairs if len(pair) == 2}


def _archive(name: str, url: str, sums: Mapping[str, str]) -> Archive:
    """Return the archive of a file in whichever format the sums list."""
    for suffix in ARCHIVES:
        if name + suffix in sums:
            return Archive(name, f"{url}/{name}{suffix}", sums[name + suffix])
    raise CannotDownload(f"{url}/{name}", f"{SUMS_FILE} there has no sum for it")


def _fetch_file(archive: Archive, folder: Path, progress: Progress) -> Path:
    """Download, check and unpack one archive; nothing but the file stays."""
    packed = folder / f".{archive.url.rpartition('/')[2]}"
    bar = _ProgressBar(progress, packed.name.lstrip("."))
    downloader = pooch.HTTPDownloader(bar, CHUNK_BYTES, timeout=TIMEOUT_S)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            archive.url, f"md5:{archive.md5}", packed.name, folder, None, downloader
        )
        return _unpack(packed, archive, folder / archive.file)
    except requests.RequestException as error:
        raise CannotDownload(archive.url, _reason(error)) from None
    except ValueError:  # pooch found another sum, and deleted what it had fetched
        reason = f"its MD5 sum is not {archive.md5}, as the publisher says"
        raise CannotDownload(archive.url, reason) from None
    finally:
        packed.unlink(missing_ok=True)


def _unpack(packed: Path, archive: Archive, target: Path) -> Path:
    part = target.with_name(f".{target.name}.part")
    try:
        with _opened(packed, archive.file) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
        return part.replace(target)
    except (EOFError, KeyError, *DAMAGES) as error:
        raise CannotDownload(archive.url, f"it cannot be unpacked: {error}") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(packed: Path, member: str) -> Iterator[IO[bytes]]:
    """Open the only file of an archive for reading."""
    if packed.suffix == ".gz":
        with gzip.open(packed) as source:
            yield cast(IO[bytes], source)
    else:
        with zipfile.ZipFile(packed) as archive, archive.open(member) as source:
            yield source


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the publisher answers {error.response.status_code}"
    return f"the publisher is not reached ({str(error) or type(error).__name__})"


class _ProgressBar:
    """One archive's bar on the terminal, with the attributes that pooch uses."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.total = 0
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def update(self, size: int) -> None:
        """Add received bytes."""
        self._progress.update(self._task, total=self.total or None, advance=size)

    def reset(self) -> None:
        """Go back to zero bytes."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Do nothing: the bars close together."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="saccade download", description=download.__doc__
    )
    result.add_argument(
        "task",
        choices=[*SUMS, *BY_HAND],
        metavar="TASK",
        help=", ".join([*SUMS, *BY_HAND]),
    )
    result.add_argument(
        "--out",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where the files go (default: data)",
    )
    result.add_argument(
        "--source",
        metavar="URL",
        help="another folder with the same files and their md5sums.txt",
    )
    return result
