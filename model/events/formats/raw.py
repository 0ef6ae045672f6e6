"""Reader of Prophesee's RAW files: a text header, then EVT2, EVT2.1 or EVT3 words.

A header line begins with "% "; the header ends at "% end" or at the first line
without that beginning. The encoding stands in `evt` or `format`, the geometry in
`geometry` or `format`. Older files have no geometry: then the file is scanned once,
and the sensor is the smallest of COMMON_SENSORS that holds every event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from saccade.model.events.encodings.evt import Evt2Decoder, Evt3Decoder, EvtDecoder
from saccade.model.events.encodings.evt21 import Evt21Decoder, looks_legacy
from saccade.model.events.errors import (
    MalformedPayload,
    MalformedRecording,
    UnsupportedRecording,
)
from saccade.model.events.geometry import Known, choose_sensor, parse_sensor
from saccade.model.events.reading import (
    Findings,
    Opened,
    ReadOptions,
    end_early,
)
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import Events

CHUNK_BYTES: Final = 1 << 17
MAX_LINE_BYTES: Final = 1 << 12
COMMON_SENSORS: Final = (Sensor(640, 480), Sensor(1280, 720))


class Encoding(NamedTuple):
    """An encoding's name, the decoder of its words, and the size of a word."""

    name: str
    decoder: Callable[[], EvtDecoder]
    word_bytes: int


ENCODINGS: Final = {
    "2": Encoding("EVT2", Evt2Decoder, 4),
    "21": Encoding("EVT2.1", Evt21Decoder, 8),
    "21 legacy": Encoding("EVT2.1", partial(Evt21Decoder, is_legacy=True), 8),
    "3": Encoding("EVT3", Evt3Decoder, 2),
}
"""The decoder of each encoding, by its version in the header without the point."""
ORDER_BYTES: Final = 1 << 12
"""How many bytes show the order of EVT2.1's halves, where the header does not."""


def open_file(path: Path, options: ReadOptions) -> Opened:
    """Open a RAW file.

    Raises:
        MalformedRecording: The header has no encoding, or the last word is cut.
        UnsupportedRecording: The encoding is none of EVT2, EVT2.1 and EVT3.
    """
    with path.open("rb") as file:
        header = read_header(file)
        begin = file.tell()
        encoding = _encoding(path, header, file.read(ORDER_BYTES))
    findings = Findings()
    if (path.stat().st_size - begin) % encoding.word_bytes:
        end_early(path, "it ends inside a word", options, findings)
    geometry = _geometry(path, header)
    known: Known = (geometry, "header") if geometry else None
    scan = partial(_decoded, path, begin, encoding)
    sensor, origin = choose_sensor(options, findings, scan, known, COMMON_SENSORS)
    name = f"{encoding.name} in a Prophesee RAW file"
    return Opened(sensor, origin, scan(findings), findings=findings, format=name)


def read_header(file: BinaryIO) -> dict[str, str]:
    """Read a Prophesee header and leave the file at its first byte of data.

    Returns:
        The header's entries, e.g. {"evt": "3.0", "geometry": "640x480"}; keys
        are in lower case.
    """
    header: dict[str, str] = {}
    while True:
        begin = file.tell()
        line = file.readline(MAX_LINE_BYTES)
        if not line.startswith(b"% ") or not line.endswith(b"\n"):
            file.seek(begin)
            return header
        key, _, value = line[2:].decode("latin-1").strip().partition(" ")
        if key.lower() == "end":
            return header
        header[key.lower()] = value.strip()


def _encoding(path: Path, header: dict[str, str], first: bytes) -> Encoding:
    """Return the encoding that the header names; `first` are the first words."""
    name = header.get("evt") or header.get("format", "").partition(";")[0]
    if not name:
        raise MalformedRecording(path, "its header names no encoding (% evt 3.0)")
    version = name.upper().removeprefix("EVT").removesuffix(".0").replace(".", "")
    if version == "21" and _is_legacy(header, first):
        version = "21 legacy"
    if version not in ENCODINGS:
        reason = f"encoding {name}; EVT2, EVT2.1 and EVT3 are read"
        raise UnsupportedRecording(path, reason)
    return ENCODINGS[version]


def _is_legacy(header: dict[str, str], first: bytes) -> bool:
    """Whether the halves of EVT2.1's words are swapped: the header says it, or they."""
    order = header.get("endianness") or _format_fields(header).get("endianness")
    if order is None:
        return looks_legacy(first[: len(first) // 8 * 8])
    return order == "legacy"


def _geometry(path: Path, header: dict[str, str]) -> Sensor | None:
    fields = _format_fields(header)
    width, height = fields.get("width"), fields.get("height")
    if "geometry" in header:
        width, _, height = header["geometry"].partition("x")
    if width is None or height is None:
        return None
    return parse_sensor(path, width, height)


def _format_fields(header: dict[str, str]) -> dict[str, str]:
    """Return the fields of a header's format, such as EVT3;height=720;width=1280."""
    entries = header.get("format", "").split(";")[1:]
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _decoded(
    path: Path, begin: int, encoding: Encoding, findings: Findings | None = None
) -> Iterator[Events]:
    decoder, word_bytes = encoding.decoder(), encoding.word_bytes
    decoder.triggers = findings.triggers if findings else None
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(CHUNK_BYTES):
            try:
                yield decoder.decode(data[: len(data) - len(data) % word_bytes])
            except MalformedPayload as error:
                raise MalformedRecording(path, str(error)) from error
            if findings:
                findings.wraps = decoder.wraps
