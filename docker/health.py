"""Ask the server of this container whether it lives: the image's health check.

It listens at `SACCADE_PORT` (8000), with TLS or without. The exit status is 0 where
`/healthz` answers with a status of success. A certificate is not checked: it names what
clients call the server, and the address asked here is loopback.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.request

TIMEOUT_S = 2.0


def main() -> int:
    """Return 0 if the server answers."""
    place = f"127.0.0.1:{os.environ.get('SACCADE_PORT') or '8000'}/healthz"
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    failures = []
    for scheme in ("http", "https"):
        try:
            urllib.request.urlopen(
                f"{scheme}://{place}", timeout=TIMEOUT_S, context=unchecked
            ).close()
        except OSError as error:  # includes urllib.error.URLError
            failures.append(f"{scheme}://{place}: {error}")
        else:
            return 0
    sys.stderr.write("\n".join(failures) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
