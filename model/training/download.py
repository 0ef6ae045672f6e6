"""Files from a publisher that tells their checksums: fetched, checked, unpacked."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import httpx

from saccade.model.training.errors import CannotDownload

LIST: Final = "md5sums.txt"
CHUNK_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 30.0

Progress = Callable[[str, int, int | None], None]
"""Hears an archive's name, the bytes that have come, and those that it has."""


class Publisher(NamedTuple):
    """Where a data set's files lie, packed with gzip beside a list of their MD5 sums.

    Attributes:
        url: The folder.
        files: Their names once unpacked.
    """

    url: str
    files: tuple[str, ...]


def fetch(publisher: Publisher, folder: Path, progress: Progress) -> list[Path]:
    """Fetch what is not in a folder yet; return what was.

    A file appears under its name only when it is whole and its archive had the sum that
    the publisher tells.

    Raises:
        CannotDownload: The publisher is not reached, has no such file, tells no sum
            for it, or what came has another.
        OSError: The folder cannot be written.
    """
    missing = [name for name in publisher.files if not (folder / name).exists()]
    folder.mkdir(parents=True, exist_ok=True)
    fetched = []
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        sums = _sums(client, publisher.url) if missing else {}
        for name in missing:
            archive = f"{name}.gz"
            url = f"{publisher.url}/{archive}"
            if archive not in sums:
                raise CannotDownload(url, f"{LIST} there has no sum for it")
            packed = folder / f".{archive}"
            try:
                _take(client, url, packed, sums[archive], progress)
                _unpack(url, packed, folder / name)
            finally:
                packed.unlink(missing_ok=True)
            fetched.append(folder / name)
    return fetched


def _sums(client: httpx.Client, base: str) -> dict[str, str]:
    url = f"{base}/{LIST}"
    try:
        answer = client.get(url)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise CannotDownload(url, _say(error)) from None
    pairs = [line.split() for line in answer.text.splitlines()]
    return {pair[1].lstrip("*"): pair[0].lower() for pair in pairs if len(pair) == 2}


def _take(
    client: httpx.Client, url: str, path: Path, expected: str, progress: Progress
) -> None:
    digest, received = hashlib.md5(usedforsecurity=False), 0
    try:
        with client.stream("GET", url) as answer, path.open("wb") as file:
            answer.raise_for_status()
            length = answer.headers.get("content-length", "")
            whole = int(length) if length.isdecimal() else None
            for part in answer.iter_raw(CHUNK_BYTES):
                file.write(part)
                digest.update(part)
                received += len(part)
                progress(path.name.lstrip("."), received, whole)
    except httpx.HTTPError as error:
        raise CannotDownload(url, _say(error)) from None
    if digest.hexdigest() != expected:
        found = f"its MD5 sum is {digest.hexdigest()}, the publisher says {expected}"
        raise CannotDownload(url, found)


def _unpack(url: str, packed: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    try:
        with gzip.open(packed) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
        part.replace(target)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CannotDownload(url, f"it cannot be unpacked: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def _say(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"the publisher answers {error.response.status_code}"
    return f"the publisher is not reached ({str(error) or type(error).__name__})"
