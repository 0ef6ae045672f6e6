"""A multipart/form-data body, parsed piece by piece: bytes in, fields and files out.

Parts of known text fields are kept in memory, each up to a small limit. The parts of
the one field of files are written to a folder as they come, whatever their length.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from saccade.server.protocol.errors import InvalidField, clip
from saccade.server.transport.problems import Problem

MULTIPART: Final = "multipart/form-data"
MOST_TEXT_BYTES: Final = 4096
"""The longest value of a text field."""
PLAIN: Final = {"", "7bit", "8bit", "binary"}


class UploadedFile(NamedTuple):
    """A part that was written to a file.

    Attributes:
        name: Its name at the client, without folders; empty where it has none.
        path: The file, whose name is the server's.
    """

    name: str
    path: Path


class MultipartForm:
    """One body's form.

    Args:
        content_type: The request's header, which holds the boundary.
        texts: The names of text fields.
        files: The name of the field whose parts are files.
        name_file: Returns the path for the file of that number and name.
        check_count: Receives how many files there are with each; may raise.

    Attributes:
        values: The text fields that came.
        uploads: The files that came, in order.

    Raises:
        Problem: The header names no boundary.
    """

    def __init__(
        self,
        content_type: str,
        texts: Collection[str],
        files: str,
        name_file: Callable[[int, str], Path],
        check_count: Callable[[int], None],
    ) -> None:
        self.values: dict[str, str] = {}
        self.uploads: list[UploadedFile] = []
        self._texts = texts
        self._files = files
        self._name_file = name_file
        self._check_count = check_count
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[str, str] = {}
        self._field = ""
        self._text = bytearray()
        self._file: BinaryIO | None = None
        self._ended = False
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise _malformed("its content type names no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._take_name,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open_part,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def feed(self, piece: bytes) -> None:
        """Parse the body's next bytes.

        Raises:
            Problem: They are malformed, or of a part that is not expected.
            OSError: A file cannot be written.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def finish(self) -> None:
        """Raise `Problem` unless the body has come to its end."""
        if not self._ended:
            raise _malformed("it ends before its last boundary")

    def close(self) -> None:
        """Close the file of a part that has not ended."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # From here on, called by the parser.

    def _begin_part(self) -> None:
        self._headers = {}

    def _begin_header(self) -> None:
        self._header = [b"", b""]

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def _open_part(self) -> None:
        """Begin a text or a file, as the headers of its part say."""
        header = self._headers.get("content-disposition", "")
        options = parse_options_header(header)[1]
        if b"name" not in options:
            raise _malformed("a part has no name")
        encoding = self._headers.get("content-transfer-encoding", "").lower()
        if encoding not in PLAIN:
            reason = f"a part is encoded with {clip(encoding)}: send it as it is"
            raise _malformed(reason)
        self._field = options[b"name"].decode("utf-8", "replace")
        if self._field == self._files:
            if b"filename" not in options:
                raise _invalid(self._field, "it has no filename, so it is no file")
            self._open_file(options[b"filename"].decode("utf-8", "replace"))
        elif self._field not in self._texts:
            raise _invalid(self._field, "there is no such field")
        elif self._field in self.values:
            raise _invalid(self._field, "it is given twice")

    def _open_file(self, given: str) -> None:
        number = len(self.uploads)
        self._check_count(number + 1)
        name = base_name(given)
        path = self._name_file(number, name)
        self.uploads.append(UploadedFile(clip(name), path))
        self._file = path.open("xb")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MOST_TEXT_BYTES:
            reason = f"it is longer than {MOST_TEXT_BYTES} bytes"
            raise _invalid(self._field, reason)

    def _end_part(self) -> None:
        if self._file is not None:
            self.close()
            return
        text, self._text = self._text, bytearray()
        try:
            self.values[self._field] = text.decode().strip()
        except UnicodeDecodeError:
            raise _invalid(self._field, "it is not UTF-8") from None

    def _end(self) -> None:
        self._ended = True


def base_name(given: str) -> str:
    """Return a client's file name without folders and unprintable characters."""
    name = PurePosixPath(given.replace("\\", "/")).name
    return "".join(c if c.isprintable() else "?" for c in name)


def _malformed(reason: str) -> Problem:
    return Problem(400, "malformed_body", f"cannot read the body: {reason}")


def _invalid(field: str, reason: str) -> Problem:
    detail = f"field {clip(field)!r}: {reason}"
    return Problem(422, InvalidField.code, detail, field=clip(field))
