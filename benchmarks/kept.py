"""Lets a benchmark find what its last run compiled: import this before JAX.

JAX and numba read these variables when they are first imported.
"""

from __future__ import annotations

import os
from typing import Final

from saccade.server.settings import cache_folder

KEPT: Final = cache_folder() / "benchmarks"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "native"))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(KEPT))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
