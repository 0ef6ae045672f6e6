"""The own bytes of Prophesee's RAW files, for a server that decodes them itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from saccade.clients.errors import UnplayableSource
from saccade.clients.pacing import RawFrame
from saccade.clients.sources.source import RawWords
from saccade.model.events.errors import MalformedRecording
from saccade.model.events.formats import raw
from saccade.server.protocol.messages import Encoding

NAMES: Final[dict[str, Encoding]] = {
    "2": "evt2",
    "21": "evt21",
    "21 legacy": "evt21-legacy",
    "3": "evt3",
}
"""The protocol's name of each of `raw.ENCODINGS`."""
PIECE_BYTES: Final = 1 << 12
"""Some thousand events: what a camera of 100,000 events/s sends in 10 ms or so."""


class _Words(NamedTuple):
    """A RAW file: where its words begin, and how they are decoded."""

    path: Path
    begin: int
    encoding: raw.Encoding


def open_raw_words(paths: Sequence[Path]) -> RawWords:
    """Open a RAW file, or several that continue one stream, for their words.

    Raises:
        RecordingError: A file is no RAW file, cannot be read or ends inside a word.
        UnplayableSource: They are no RAW files, or differ in their encoding.
    """
    files = [_open(path) for path in paths]
    names = {_wire_name(file) for file in files}
    if len(names) > 1:
        reason = (
            f"words of {', '.join(sorted(names))} cannot be forwarded as one stream"
        )
        raise UnplayableSource(str(paths[0]), reason)
    return RawWords(names.pop(), _frames(files))


def _open(path: Path) -> _Words:
    if path.suffix.lower() != ".raw":
        raise UnplayableSource(str(path), "--raw forwards Prophesee's RAW files alone")
    with path.open("rb") as file:
        header = raw.read_header(file)
        begin = file.tell()
        encoding = raw.find_encoding(path, header, file.read(raw.ORDER_BYTES))
    if (path.stat().st_size - begin) % encoding.word_bytes:
        raise MalformedRecording(path, "truncated: it ends inside a word")
    return _Words(path, begin, encoding)


def _wire_name(file: _Words) -> Encoding:
    """Return the protocol's name of a file's encoding, such as `evt21-legacy`."""
    versions = raw.ENCODINGS.items()
    version = next(key for key, known in versions if known is file.encoding)
    return NAMES[version]


def _frames(files: Sequence[_Words]) -> Iterator[RawFrame]:
    """Yield all bytes behind the headers, decoded too: only their events have times."""
    decoder = files[0].encoding.decoder()
    for path, begin, _ in files:
        with path.open("rb") as file:
            file.seek(begin)
            while data := file.read(PIECE_BYTES):
                yield RawFrame(data, decoder.decode(data))
