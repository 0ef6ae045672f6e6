"""The server's certificate, tried before anything is started."""

from __future__ import annotations

import ssl
from pathlib import Path


def check_certificate(cert: Path, key: Path | None, password: str) -> None:
    """Make sure that a certificate can be shown.

    Args:
        cert: The certificate, and those that lead from it to an authority.
        key: Its key; by default in the same file.
        password: What opens the key, if it is locked.

    Raises:
        ValueError: The files cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password)
    except OSError as error:  # an SSLError is one, too
        files = f"{cert} and {key}" if key else f"{cert}"
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"cannot use the certificate in {files}: {reason}") from None
