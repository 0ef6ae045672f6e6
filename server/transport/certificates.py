"""When the certificates of a file expire, read from their DER encoding.

A certificate (RFC 5280) is nested values, each of a tag, a length and its content:
SEQUENCE { SEQUENCE { [0] version, serial, algorithm, issuer, validity, … }, … }.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL
)
VERSION: Final = 0xA0
UTC_TIME: Final = 0x17
"""Tags: of the version, which may be missing, and of a time whose year has two
digits."""
BEFORE_VALIDITY: Final = 3
"""Values between the version and the validity: serial, algorithm, issuer."""
PIVOT: Final = 50
"""Years of two digits from here on are of the 20th century (RFC 5280, 4.1.2.5.1)."""


class _Value(NamedTuple):
    tag: int
    content: bytes


def expiry_s(pem: bytes) -> float:
    """Return when the first of a file's certificates expires, in s since 1970.

    Args:
        pem: The file's content, a certificate and its chain.

    Raises:
        ValueError: There is no certificate in it, or one cannot be read.
    """
    found = [ssl.PEM_cert_to_DER_cert(one.decode()) for one in PEM.findall(pem)]
    if not found:
        raise ValueError("there is no certificate in the file")
    return min(_not_after(der).timestamp() for der in found)


def _not_after(der: bytes) -> datetime:
    try:
        (certificate,) = _values(der)
        to_be_signed = next(_values(certificate.content))
        parts = _values(to_be_signed.content)
        skipped = BEFORE_VALIDITY + (next(parts).tag == VERSION)
        for _ in range(skipped - 1):
            next(parts)
        _, not_after = _values(next(parts).content)
        return _time(not_after)
    except (StopIteration, IndexError) as error:
        raise ValueError("a certificate in the file is cut off") from error


def _time(value: _Value) -> datetime:
    text = value.content.decode("ascii")
    if value.tag == UTC_TIME:
        text = ("19" if int(text[:2]) >= PIVOT else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


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
