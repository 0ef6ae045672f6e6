"""The tests for an accelerator, tried where there is none.

They run as their page says on a borrowed machine: with few packages, no plugin of
pytest, and neither configuration nor conftest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from saccade.model.upstream.recipes import recipe
from tests.compiling import QUICKLY
from tests.model.test_gpu import DVS_SMALL

ROOT = Path(__file__).parents[2]
BARE = ROOT / "tests" / "benchmarks" / "bare.py"
OPTIONS = "-c /dev/null --rootdir . --noconftest --import-mode importlib -rs"

without_one = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="they run here, on the accelerator"
)


def run(**variables: str) -> str:
    """Run the tests for an accelerator in a process of its own; return its report."""
    changed = {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
        "BARE_MACHINE_HAS": "pytest",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, str(BARE), "pytest", *OPTIONS.split()]
    done = subprocess.run(
        [*command, "tests/model/test_gpu.py"],
        cwd=ROOT,
        env={**os.environ, **changed, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def count(outcome: str, report: str) -> int:
    found = re.search(rf"(\d+) {outcome}", report.splitlines()[-1])
    return int(found[1]) if found else 0


def test_their_network_is_the_published_one() -> None:
    assert recipe("dvs/small").config == DVS_SMALL


@pytest.mark.slow
@without_one
def test_without_an_accelerator_every_test_skips_and_says_why() -> None:
    report = run()
    assert "JAX finds no accelerator" in report
    assert count("skipped", report) > 0
    assert count("passed", report) == 0


@pytest.mark.slow
@without_one
def test_on_request_they_pass_on_the_cpu() -> None:
    report = run(SACCADE_TEST_GPU_ON_CPU="1", XLA_FLAGS=QUICKLY)
    assert count("passed", report) >= 15
    assert "JAX finds no accelerator" not in report
