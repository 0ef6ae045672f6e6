"""Checks of the settings, and of keys and certificate: who may come in."""

from __future__ import annotations

import difflib
import ssl
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from saccade.server.command_line import holds_password
from saccade.server.configuration import CONFIG
from saccade.server.doctor.findings import Finding, Subject
from saccade.server.setting_values import PREFIX, variable
from saccade.server.settings import WILDCARDS, Settings, in_fleet, is_loopback
from saccade.server.transport.auth import Keys
from saccade.server.transport.certificates import Certificate, read_certificates

CLIENTS: Final = ("SACCADE_KEY", "SACCADE_CA")
"""Variables of the clients."""

DAY_S: Final = 86_400
RENEW_DAYS: Final = 14


def check_settings(subject: Subject) -> Iterator[Finding]:
    """Say where the settings come from, and which variables name none."""
    kinds = [origin.kind for origin in subject.resolved.origins.values()]
    file = subject.resolved.file
    counts = f"{kinds.count('option')} from options, "
    counts += f"{kinds.count('environment')} from variables, "
    place = f"{kinds.count('file')} from {file}" if file else "no file"
    yield Finding("settings", "ok", counts + place)
    yield from _misspelt(subject)
    if file is not None and _mode(file) & (stat.S_IRGRP | stat.S_IROTH):
        for item in fields(Settings):
            value = subject.resolved.values[item.name]
            origin = subject.resolved.origins[item.name]
            if origin.kind == "file" and holds_password(item, value):
                yield Finding(
                    "settings",
                    "warning",
                    f"{item.name} holds a password, and others can read {file}",
                    f"chmod 600 {file}, or give it as {variable(item)}",
                )


def _misspelt(subject: Subject) -> Iterator[Finding]:
    """Find variables that look like a setting's and are not."""
    known = [variable(item) for item in fields(Settings)]
    known += [*CLIENTS, PREFIX + CONFIG.upper()]
    for name in subject.environment:
        close = difflib.get_close_matches(name, known, 1, cutoff=0.8)
        if name.startswith(PREFIX) and name not in known and close:
            yield Finding(
                "settings",
                "warning",
                f"the variable {name} is no setting and is not read",
                f"did you mean {close[0]}?",
            )


def check_keys(subject: Subject) -> Iterator[Finding]:
    """Check that there are keys where there must be, and who can change them."""
    values, settings = subject.resolved.values, subject.settings
    file: Path | None = values["keys_file"]
    try:
        keys = Keys.read(file, values["keys"])
    except ValueError as error:
        remedy = "make its lines with `saccade key NAME`, one for each key"
        yield Finding("keys", "fault", str(error), remedy)
        return
    if file is not None and _mode(file) & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"others can write to {file}, and so let anybody in"
        yield Finding("keys", "warning", text, f"chmod go-w {file}")
    if keys:
        yield Finding("keys", "ok", "clients need a key")
    elif is_loopback(settings.host):
        text = f"there are no keys; only this machine reaches {settings.host}"
        yield Finding("keys", "ok", text)
    elif values["insecure"]:
        text = f"{settings.host} is served to everybody: there are no keys"
        remedy = "saccade key NAME >> keys, then --keys-file keys, without --insecure"
        yield Finding("keys", "warning", text, remedy)
    else:
        where = f"in {file}" if file else "at all"
        text = f"others reach {settings.host}, and there is no key {where}"
        remedy = "saccade key NAME >> keys, then --keys-file keys"
        yield Finding("keys", "fault", text, remedy)


def check_certificate(subject: Subject) -> Iterator[Finding]:
    """Check that certificate and key belong together, are valid, and name the host."""
    values = subject.resolved.values
    cert: Path | None = values["tls_cert"]
    key: Path | None = values["tls_key"]
    if cert is None:
        yield _without_certificate(subject)
        return
    try:
        own, *chain = _check_pair(cert, key, values["tls_key_password"])
    except (OSError, ValueError) as error:  # includes ssl.SSLError
        facts = (getattr(error, name, None) for name in ("reason", "strerror"))
        reason = next(filter(None, facts), error)
        files = f"{cert} and {key}" if key else f"{cert}"
        remedy = "give a certificate with its chain and the key that it was made with"
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            reason = "the key is another certificate's"
        text = f"cannot use the certificate in {files}: {reason}"
        yield Finding("certificate", "fault", text, remedy)
        return
    yield _expiry(f"{cert}", own, time.time())
    authorities = [
        _expiry(f"an authority in {cert}", one, time.time()) for one in chain
    ]
    yield from (finding for finding in authorities if finding.level != "ok")
    yield from _names(subject, cert, own.names)
    private = key or cert
    if _mode(private) & (stat.S_IRGRP | stat.S_IROTH):
        text = f"others can read the certificate's key in {private}"
        yield Finding("certificate", "warning", text, f"chmod 600 {private}")


def _without_certificate(subject: Subject) -> Finding:
    if subject.resolved.values["tls_key"] is not None:
        remedy = "name the certificate with --tls-cert, or leave --tls-key out"
        return Finding(
            "certificate", "fault", "tls_key is given without tls_cert", remedy
        )
    if is_loopback(subject.settings.host):
        return Finding("certificate", "ok", "none; only this machine connects")
    text = "none: keys, tokens and events are readable on the way"
    remedy = "give --tls-cert and --tls-key, or let a proxy in front end TLS"
    return Finding("certificate", "warning", text, remedy)


def _check_pair(cert: Path, key: Path | None, password: str) -> list[Certificate]:
    """Return the certificates of a file that TLS can use.

    Args:
        cert: The certificate, with its chain.
        key: Its key; None where that is in the same file.
        password: The key's, if it has one.

    Raises:
        OSError: The files cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key, password)
    return read_certificates(cert.read_bytes())


def _expiry(name: str, certificate: Certificate, now_s: float) -> Finding:
    begins, ends = (
        f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"
        for time_s in (certificate.begins_s, certificate.ends_s)
    )
    days = (certificate.ends_s - now_s) / DAY_S
    renew = "renew it, and restart the server: it is read at the start alone"
    if certificate.begins_s > now_s:
        text = f"{name} is valid from {begins} on, not yet"
        return Finding("certificate", "fault", text, "check the clock of this machine")
    if days < 0:
        text = f"{name} has expired: it was valid until {ends}"
        return Finding("certificate", "fault", text, renew)
    if days < RENEW_DAYS:
        text = f"{name} expires in {days:.0f} days, on {ends}"
        return Finding("certificate", "warning", text, renew)
    return Finding("certificate", "ok", f"{name} is valid until {ends}")


def _names(subject: Subject, cert: Path, names: Sequence[str]) -> Iterator[Finding]:
    """Compare the certificate's names with the host that clients connect to."""
    host = urlsplit(subject.settings.advertise).hostname or subject.settings.host
    if host in WILDCARDS or _names_host(names, host):
        return
    listed = ", ".join(names) or "no host"
    text = f"{cert} is for {listed}, and not for {host}"
    remedy = "clients refuse the name that they connect to unless it is listed"
    yield Finding("certificate", "warning", text, remedy)


def _names_host(names: Sequence[str], host: str) -> bool:
    """Return whether one of a certificate's names is that of a host."""
    _, _, domain = host.partition(".")
    wildcard = f"*.{domain}" if domain else ""
    return any(name.lower() in {host.lower(), wildcard.lower()} for name in names)


def check_fleet(subject: Subject) -> Iterator[Finding]:
    """Check that the other servers of a fleet know an address of this one."""
    settings = subject.settings
    if settings.ray:
        yield from _check_replicas(settings)
    elif not in_fleet(settings):
        return
    elif settings.advertise:
        yield Finding("fleet", "ok", f"others send clients to {settings.advertise}")
    elif settings.host in WILDCARDS or is_loopback(settings.host):
        text = f"no other server knows an address of this one: it is {settings.host!r}"
        remedy = "give --advertise https://HOST:PORT, by which clients reach it"
        yield Finding("fleet", "warning", text, remedy)
    else:
        yield Finding("fleet", "ok", f"others send clients to {settings.host}")


def _check_replicas(settings: Settings) -> Iterator[Finding]:
    """Check that the replicas of --ray share what they must."""
    if in_fleet(settings):
        yield Finding("fleet", "ok", f"Ray runs {settings.replicas} replicas")
        return
    text = f"the replicas of --ray share no store: store is {settings.store}, "
    text += f"snapshot_s {settings.snapshot_s:g}"
    remedy = "--store redis and --snapshot-s above 0"
    yield Finding("fleet", "fault", text, remedy)


def _mode(path: Path) -> int:
    """Return a file's permissions; none where they cannot be read."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
