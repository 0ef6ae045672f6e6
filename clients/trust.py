"""Whose word this client takes for who a server is, from its environment."""

from __future__ import annotations

import os
import ssl
from typing import Final

CA_VARIABLE: Final = "SACCADE_CA"


def trusted(url: str) -> ssl.SSLContext | None:
    """Return how to check a server's certificate; None where it shows none.

    The authorities are those of this machine, or those of the file that `SACCADE_CA`
    names: for a server with a certificate of its own.

    Args:
        url: The address that is about to be dialled.

    Raises:
        OSError: The file cannot be read, or holds no certificate.
    """
    if not url.startswith(("wss:", "https:")):
        return None
    file = os.environ.get(CA_VARIABLE)
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise OSError(f"cannot use the certificates in {file}: {error}") from None
