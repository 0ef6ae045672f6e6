"""constraints.txt pins all that an installation brings, and names no index."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.repository import ROOT


def lines_of(name: str) -> list[str]:
    """Return the lines of a file of constraints that pin something."""
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


LINES = lines_of("constraints.txt")
CUDA = {extra: lines_of(f"constraints-{extra}.txt") for extra in ("cuda12", "cuda13")}
"""The libraries of each version of CUDA, which are NVIDIA's and not tested by CI."""
ELSEWHERE = ("release",)
"""Extras of environments that CI makes by themselves and compares with the pins."""
EXTRAS = (
    "model", "server", "train", "recordings", "hdf5", "ros", "dv", "cameras",
    "terminal", "redis", "otel", "ray", "wandb", "dev",
)  # fmt: skip
"""All but those of CUDA, which have constraints of their own."""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found["project"]


def applicable(lines: list[str], extras: frozenset[str]) -> Iterator[Requirement]:
    """Yield the requirements that hold for this Python and these extras."""
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras}):
            yield requirement


def needed(project: dict[str, Any]) -> set[str]:
    """Return every distribution that the project's extras bring, however far away."""
    names: set[tuple[str, frozenset[str]]] = set()
    lines = [
        *project["dependencies"],
        *(line for extra in EXTRAS for line in project["optional-dependencies"][extra]),
    ]
    waiting = list(applicable(lines, frozenset()))
    while waiting:
        requirement = waiting.pop()
        found = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if found in names or found[0] == "saccade":
            continue
        names.add(found)
        waiting += applicable(dependencies(requirement.name), found[1])
    return {name for name, _ in names}


def dependencies(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed: this is no development environment")


def pins() -> dict[str, str]:
    """Return what is pinned for this Python."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier)
        for requirement in applicable(LINES, frozenset())
    }


def test_every_distribution_that_the_extras_need_is_pinned(project):
    assert needed(project) - pins().keys() == set()


@pytest.mark.parametrize("lines", [LINES, *CUDA.values()])
def test_every_line_is_one_exact_version(lines):
    pin = r"[\w.-]+==(\d+!)?[0-9][\w.+]*( ; python_version (<|>=) \"3\.\d+\")?"
    assert lines
    assert [line for line in lines if not re.fullmatch(pin, line)] == []


@pytest.mark.parametrize("extra", CUDA)
def test_the_plugin_for_cuda_is_of_the_release_of_jaxlib(extra):
    pinned = {str(r.specifier): str(r.marker) for r in map(Requirement, LINES)
              if r.name == "jaxlib"}  # fmt: skip
    for package in ("pjrt", "plugin"):
        found = {str(r.specifier): str(r.marker) for r in map(Requirement, CUDA[extra])
                 if r.name == f"jax-{extra}-{package}"}  # fmt: skip
        assert found == pinned


def test_the_two_versions_of_cuda_share_no_library():
    twelve, thirteen = ({line.partition("==")[0] for line in CUDA[e]} for e in CUDA)
    assert twelve.isdisjoint(thirteen)
    assert "nvidia-cuda-nvcc-cu12" in twelve, "XLA assembles its kernels with it"
    assert "nvidia-cuda-nvcc" in thirteen


def test_every_file_of_constraints_is_audited():
    audit = (ROOT / ".ci/audit").read_text()
    files = sorted(path.name for path in ROOT.glob("constraints*.txt"))
    assert len(files) == 1 + len(CUDA)
    assert [name for name in files if f"-r {name}" not in audit] == []


@pytest.mark.parametrize("name", ["", *(f"-{extra}" for extra in CUDA)])
def test_no_index_is_named(name):
    text = (ROOT / f"constraints{name}.txt").read_text()
    assert "://" not in text
    assert "index" not in text
    assert "find-links" not in text


def test_the_extras_are_those_that_are_tested(project):
    assert set(project["optional-dependencies"]) == {*EXTRAS, *ELSEWHERE, *CUDA, "cuda"}


def test_the_releases_of_jax_that_compute_wrong_numbers_are_excluded(project):
    extras = project["optional-dependencies"]
    lines = [line for extra in extras.values() for line in extra]
    jax = [each for each in map(Requirement, lines) if each.name == "jax"]
    assert len(jax) == 3
    for requirement in jax:
        assert {"!=0.10.2", "!=0.11.0"} <= set(str(requirement.specifier).split(","))
        for version in ("0.10.2", "0.11.0", "0.10.0"):
            assert version not in requirement.specifier


@pytest.mark.parametrize("name", ["jax", "jaxlib"])
def test_a_pinned_jax_is_a_good_one(name):
    versions = {
        str(requirement.specifier)
        for requirement in map(Requirement, LINES)
        if requirement.name == name
    }
    assert versions
    assert versions.isdisjoint({"==0.10.2", "==0.11.0"})
