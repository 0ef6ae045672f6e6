"""A certificate's dates and names are read as cryptography reads them."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from saccade.server.transport.certificates import expiry_s, read_certificates


def certificate(expires: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a camera's server")])
    built = x509.CertificateBuilder(name, name, key.public_key(), 7)
    built = built.not_valid_before(expires - timedelta(days=90))
    signed = built.not_valid_after(expires).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2199])
def test_the_expiry_is_read_in_either_form_of_a_time(year):
    expires = datetime(year, 5, 17, 12, 34, 56, tzinfo=UTC)
    assert expiry_s(certificate(expires)) == expires.timestamp()


def test_of_a_chain_the_certificate_that_expires_first_counts():
    early, late = datetime(2027, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    chain = certificate(late) + b"of the authority\n" + certificate(early)
    assert expiry_s(chain) == early.timestamp()


def test_the_key_beside_a_certificate_does_no_harm():
    issued = trustme.CA().issue_cert("localhost")
    leaf = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    pem = issued.private_key_and_cert_chain_pem.bytes()
    assert expiry_s(pem) == leaf.not_valid_after_utc.timestamp()


def test_the_hosts_and_addresses_of_a_certificate_are_its_names():
    issued = trustme.CA().issue_cert("eye.example", "*.example", "10.0.0.7", "::1")
    leaf, *chain = read_certificates(issued.private_key_and_cert_chain_pem.bytes())
    assert set(leaf.names) == {"eye.example", "*.example", "10.0.0.7", "::1"}
    assert not chain
    known = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    assert leaf.begins_s == known.not_valid_before_utc.timestamp()
    assert (
        read_certificates(certificate(datetime(2030, 1, 1, tzinfo=UTC)))[0].names == ()
    )


def test_what_openssl_takes_for_a_certificate_is_read_as_one(tmp_path):
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    plain, named, trusted = (tmp_path / name for name in ("plain", "named", "trusted"))
    plain.write_bytes(certificate(expires))
    named.write_bytes(plain.read_bytes().replace(b" CERT", b" X509 CERT"))
    command = ["openssl", "x509", "-in", str(plain), "-trustout", "-addtrust"]
    program = shutil.which("openssl")
    files = [plain, named]
    if program:
        subprocess.run([*command, "serverAuth", "-out", str(trusted)], check=True)
        assert b"TRUSTED" in trusted.read_bytes()
        files.append(trusted)
    for file in files:
        assert expiry_s(file.read_bytes()) == expires.timestamp()


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_without_a_certificate_is_an_error(pem):
    with pytest.raises(ValueError, match="no certificate"):
        expiry_s(pem)


def test_a_certificate_that_is_cut_off_is_an_error():
    lines = certificate(datetime(2030, 1, 1, tzinfo=UTC)).splitlines()
    with pytest.raises(ValueError, match="cut off"):
        expiry_s(b"\n".join([*lines[:2], lines[-1]]))
