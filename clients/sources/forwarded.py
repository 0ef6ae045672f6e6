"""A Prophesee RAW file's own bytes, for a server that decodes them itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

from saccade.clients.errors import UnplayableSource
from saccade.clients.pacing import RawFrame
from saccade.clients.sources.source import RawWords
from saccade.model.events.formats import raw
from saccade.server.protocol.messages import Encoding

PIECE_BYTES: Final = 1 << 12
"""Some thousand events: what a camera of 100,000 events/s sends in 10 ms or so."""


def open_raw_words(path: Path) -> RawWords:
    """Open a RAW file for its words.

    Raises:
        RecordingError: It is no RAW file, or cannot be read.
        UnplayableSource: The server's protocol has no such encoding.
    """
    with path.open("rb") as file:
        header = raw.read_header(file)
        begin = file.tell()
    encoding = raw.find_encoding(path, header)
    name = encoding.name.lower().replace(".", "")
    if name not in get_args(Encoding):
        raise UnplayableSource(str(path), f"{encoding.name} cannot be forwarded")
    return RawWords(name, _frames(path, begin, encoding))


def _frames(path: Path, begin: int, encoding: raw.Encoding) -> Iterator[RawFrame]:
    """Yield all bytes behind the header, decoded too: only their events have times."""
    decoder = encoding.decoder()
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(PIECE_BYTES):
            yield RawFrame(data, decoder.decode(data))
