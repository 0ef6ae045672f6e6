"""Keys, certificate, passwords and addresses, as doctor finds them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from saccade.server.doctor.access import (
    check_certificate,
    check_fleet,
    check_keys,
    check_settings,
)
from saccade.server.doctor.findings import Finding
from tests.server.doctor.conftest import Examined

HASH = "0" * 64
DAY = timedelta(days=1)


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def worse(findings: Iterable[Finding]) -> list[str]:
    return [f"{each.level}: {each.text}" for each in findings if each.level != "ok"]


class Paper:
    """A certificate and its key, valid for some days."""

    def __init__(self, folder: Path, *names: str, days: float = 90, begins: float = -9):
        issued = trustme.CA().issue_cert(
            *names,
            not_before=datetime.now(UTC) + begins * DAY,
            not_after=datetime.now(UTC) + days * DAY,
        )
        folder.mkdir(exist_ok=True)
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        for number, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(self.cert, append=number > 0)
        issued.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o600)

    @property
    def options(self) -> dict[str, Path]:
        return {"tls_cert": self.cert, "tls_key": self.key}


def test_a_sound_certificate_passes(examined: Examined, tmp_path: Path) -> None:
    paper = Paper(tmp_path, "127.0.0.1", "localhost")
    finding = only(check_certificate(examined(**paper.options)))
    assert finding.level == "ok"
    assert "is valid until" in finding.text


@pytest.mark.parametrize(
    ("days", "begins", "level", "words"),
    [
        (-1, -9, "fault", "has expired"),
        (7.2, -9, "warning", "expires in 7 days"),
        (90, 2, "fault", "not yet"),
    ],
)
def test_a_certificate_out_of_its_time_is_named(
    examined: Examined,
    tmp_path: Path,
    days: float,
    begins: float,
    level: str,
    words: str,
) -> None:
    paper = Paper(tmp_path, "127.0.0.1", days=days, begins=begins)
    finding = only(check_certificate(examined(**paper.options)))
    assert (finding.level, words in finding.text) == (level, True)
    assert finding.remedy


def expired_authority() -> bytes:
    """Return the certificate of an authority whose time is over, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=now - 9 * DAY,
        not_valid_after=now - DAY,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def test_an_authority_of_the_chain_that_has_expired_is_named(
    examined: Examined, tmp_path: Path
) -> None:
    paper = Paper(tmp_path, "127.0.0.1")
    with paper.cert.open("ab") as chain:
        chain.write(expired_authority())
    (found,) = worse(check_certificate(examined(**paper.options)))
    assert found.startswith(f"fault: an authority in {paper.cert} has expired")


def test_a_key_of_another_certificate_is_named(
    examined: Examined, tmp_path: Path
) -> None:
    mine, other = Paper(tmp_path / "a", "a.example"), Paper(tmp_path / "b", "a.example")
    subject = examined(tls_cert=mine.cert, tls_key=other.key)
    finding = only(check_certificate(subject))
    assert finding.level == "fault"
    assert "the key is another certificate's" in finding.text
    finding = only(check_certificate(examined(tls_key=mine.key)))
    assert finding.text == "tls_key is given without tls_cert"
    finding = only(check_certificate(examined(tls_cert=tmp_path / "none")))
    assert "No such file" in finding.text


@pytest.mark.parametrize(
    ("name", "advertise", "sound"),
    [
        ("eye.example", "https://eye.example:8000", True),
        ("*.example", "https://eye.example", True),
        ("*.example", "https://left.eye.example", False),
        ("eye.example", "https://ear.example", False),
    ],
)
def test_a_certificate_for_another_host_is_named(
    examined: Examined, tmp_path: Path, name: str, advertise: str, sound: bool
) -> None:
    paper = Paper(tmp_path, name)
    found = worse(check_certificate(examined(**paper.options, advertise=advertise)))
    assert [f"is for {name}, and not for" in each for each in found] == [True] * (
        not sound
    )


def test_files_that_others_may_read_or_change_are_named(
    examined: Examined, tmp_path: Path
) -> None:
    paper = Paper(tmp_path, "127.0.0.1")
    paper.key.chmod(0o644)
    (found,) = worse(check_certificate(examined(**paper.options)))
    assert found.startswith("warning: others can read the certificate's key")
    keys = tmp_path / "keys"
    keys.write_text(f"robot:{HASH}\n")
    keys.chmod(0o666)
    (found,) = worse(check_keys(examined(keys_file=keys)))
    assert found.startswith("warning: others can write to")
    keys.chmod(0o644)
    assert worse(check_keys(examined(keys_file=keys))) == []


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({"host": "127.0.0.1"}, "ok"),
        ({"host": "0.0.0.0"}, "fault"),
        ({"host": "0.0.0.0", "insecure": "true"}, "warning"),
        ({"host": "0.0.0.0", "keys": f"robot:{HASH}"}, "ok"),
    ],
)
def test_an_address_that_others_reach_needs_keys(
    examined: Examined, options: dict[str, str], level: str
) -> None:
    assert only(check_keys(examined(**options))).level == level


def test_a_password_in_a_file_that_others_can_read_is_named(
    examined: Examined, tmp_path: Path
) -> None:
    file = tmp_path / "saccade.toml"
    file.write_text("store_url = 'redis://:sesame@host'\n")
    file.chmod(0o644)
    subject = examined(config=file)
    (found,) = worse(check_settings(subject))
    assert "store_url holds a password" in found
    assert "sesame" not in found
    file.chmod(0o600)
    assert worse(check_settings(subject)) == []


def test_a_variable_that_looks_like_a_setting_is_named(examined: Examined) -> None:
    environment = {"SACCADE_KEY_SESION": "3", "SACCADE_SLOTS": "9", "SACCADE_KEY": "k"}
    unrelated = {"SACCADE_SERVICE_HOST": "10.0.0.1", "PATH": "/bin"}
    found = [*check_settings(examined(environment | unrelated))]
    assert [each.remedy for each in found] == ["", "did you mean SACCADE_KEY_SESSIONS?"]


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({"store": "sqlite"}, []),
        ({"store": "redis", "host": "0.0.0.0"}, ["warning"]),
        ({"store": "redis", "host": "10.0.0.1"}, ["ok"]),
        ({"store": "redis", "advertise": "https://a:1"}, ["ok"]),
        ({"ray": "true"}, ["ok"]),
        ({"ray": "true", "store": "sqlite"}, ["fault"]),
        ({"ray": "true", "snapshot_s": "0"}, ["fault"]),
    ],
)
def test_the_servers_of_a_fleet_need_an_address_of_each_other(
    examined: Examined, options: dict[str, str], levels: list[str]
) -> None:
    assert [each.level for each in check_fleet(examined(**options))] == levels
