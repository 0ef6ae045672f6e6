"""What holds for every test.

A property is tried for as long as it takes: no test is about time. Programs are
compiled quickly and kept; native code is made once, for the tests' own process and for
the servers that they start.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from saccade.server.settings import cache_folder
from tests.compiling import compile_once, compile_quickly

os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "native"))
compile_quickly()
compile_once()
settings.register_profile(
    "saccade", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("saccade")
