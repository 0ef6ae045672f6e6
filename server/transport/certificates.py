"""What the certificates of a file say: when they are valid, and for which hosts.

They are read from their DER encoding. A certificate (RFC 5280) is nested values, each
of a tag, a length and its content: SEQUENCE { SEQUENCE { [0] version, serial,
algorithm, issuer, validity, subject, key, …, [3] extensions }, … }.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final, NamedTuple

PEM: Final = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----(.*?)-----END \1-----", re.DOTALL
)
VERSION: Final = 0xA0
EXTENSIONS: Final = 0xA3
UTC_TIME: Final = 0x17
DNS_NAME: Final = 0x82
IP_ADDRESS: Final = 0x87
"""Tags: of the version and the extensions, which may be missing, of a time whose year
has two digits, and of two kinds of names."""
SUBJECT_ALT_NAME: Final = bytes([0x55, 0x1D, 0x11])
"""The extension that holds names, 2.5.29.17."""
BEFORE_VALIDITY: Final = 3
"""Values between the version and the validity: serial, algorithm, issuer."""
PIVOT: Final = 50
"""Years of two digits from here on are of the 20th century (RFC 5280, 4.1.2.5.1)."""


class Certificate(NamedTuple):
    """What one certificate says.

    Attributes:
        begins_s: From when on it is valid, s since 1970.
        ends_s: Until when, s since 1970.
        names: Hosts and addresses that it is for.
    """

    begins_s: float
    ends_s: float
    names: tuple[str, ...]


class _Value(NamedTuple):
    tag: int
    content: bytes


def read_certificates(pem: bytes) -> list[Certificate]:
    """Return a file's certificates, in its order: first the server's, then its chain.

    Args:
        pem: The file's content; what is no certificate is passed over.

    Raises:
        ValueError: There is no certificate in it, or one cannot be read.
    """
    found = [binascii.a2b_base64(match[2]) for match in PEM.finditer(pem)]
    if not found:
        raise ValueError("there is no certificate in the file")
    return [_certificate(der) for der in found]


def expiry_s(pem: bytes) -> float:
    """Return when the first of a file's certificates expires, in s since 1970.

    Args:
        pem: The file's content, a certificate and its chain.

    Raises:
        ValueError: There is no certificate in it, or one cannot be read.
    """
    return min(one.ends_s for one in read_certificates(pem))


def _certificate(der: bytes) -> Certificate:
    try:
        certificate = next(_values(der))  # a trusted one has OpenSSL's notes after it
        parts = [*_values(next(_values(certificate.content)).content)]
        validity = parts[BEFORE_VALIDITY + (parts[0].tag == VERSION)]
        begins, ends = map(_time_s, _values(validity.content))
        return Certificate(begins, ends, tuple(_names(parts)))
    except (StopIteration, IndexError) as error:
        raise ValueError("a certificate in the file is cut off") from error


def _names(parts: list[_Value]) -> Iterator[str]:
    for part in parts:
        if part.tag != EXTENSIONS:
            continue
        (extensions,) = _values(part.content)
        for extension in _values(extensions.content):
            identifier, *_, content = _values(extension.content)
            if identifier.content == SUBJECT_ALT_NAME:
                (names,) = _values(content.content)
                yield from _of_hosts(names)


def _of_hosts(names: _Value) -> Iterator[str]:
    for name in _values(names.content):
        if name.tag == DNS_NAME:
            yield name.content.decode("ascii", "replace")
        elif name.tag == IP_ADDRESS:
            yield str(ip_address(name.content))


def _time_s(value: _Value) -> float:
    text = value.content.decode("ascii")
    if value.tag == UTC_TIME:
        text = ("19" if int(text[:2]) >= PIVOT else "20") + text
    read = datetime.strptime(text, "%Y%m%d%H%M%SZ")
    return read.replace(tzinfo=UTC).timestamp()


def _values(data: bytes) -> Iterator[_Value]:
    """Yield the values that follow each other in some bytes."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        if at + length > len(data):
            raise IndexError(at)
        yield _Value(tag, data[at : at + length])
        at += length
