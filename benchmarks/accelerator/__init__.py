"""Measures the engine on an accelerator: `python -m benchmarks.accelerator`.

XLA's log of each program that it loads is left out unless TF_CPP_MIN_LOG_LEVEL says
otherwise; JAX reads the variable when it is first imported.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
