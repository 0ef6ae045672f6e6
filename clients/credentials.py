"""The API key that this client shows, from its environment."""

from __future__ import annotations

import os
from typing import Final

KEY_VARIABLE: Final = "SACCADE_KEY"


def authorization() -> dict[str, str]:
    """Return the header that shows the key; none where there is no key.

    A key is a secret: it is read from the environment alone, so that it is in no
    command line and no address.
    """
    key = os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}
