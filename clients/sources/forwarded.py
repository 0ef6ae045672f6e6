"""The own bytes of Prophesee's RAW files, for a server that decodes them itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, get_args

from saccade.clients.errors import UnplayableSource
from saccade.clients.pacing import RawFrame
from saccade.clients.sources.source import RawWords
from saccade.model.events.errors import MalformedRecording
from saccade.model.events.formats import raw
from saccade.server.protocol.messages import Encoding

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
        UnplayableSource: The wire has no such encoding, or the files differ in it.
    """
    files = [_open(path) for path in paths]
    names = {_wire_name(file) for file in files}
    if len(names) > 1 or not names <= {*get_args(Encoding)}:
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
    encoding = raw.find_encoding(path, header)
    if (path.stat().st_size - begin) % encoding.word_bytes:
        raise MalformedRecording(path, "truncated: it ends inside a word")
    return _Words(path, begin, encoding)


def _wire_name(file: _Words) -> Encoding:
    name: Encoding = file.encoding.name.lower().replace(".", "")  # type: ignore[assignment]
    return name


def _frames(files: Sequence[_Words]) -> Iterator[RawFrame]:
    """Yield all bytes behind the headers, decoded too: only their events have times."""
    decoder = files[0].encoding.decoder()
    for path, begin, _ in files:
        with path.open("rb") as file:
            file.seek(begin)
            while data := file.read(PIECE_BYTES):
                yield RawFrame(data, decoder.decode(data))
