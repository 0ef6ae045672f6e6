"""No file of the repository depends on the machine that it was written on."""

from __future__ import annotations

import re

from tests.project.repository import ROOT, tracked

# Put together here, so that this file is clean as well.
MACHINE = tuple(
    "/" + name + "/" for name in ("work", "root", "opt/pypi", "opt/wheels", "Users")
)
INDEXES = tuple(
    option + mark
    for option in (
        "index-" + "url",
        "PIP_" + "INDEX",
        "find-" + "links",
        "PIP_" + "FIND",
    )
    for mark in ("=", " ", "_")
)
HOSTS = re.compile(rb"https?://[^\s\"')]*(?:/simple\b|pypi|artifactory|nexus|devpi)")
LARGEST_BYTES = 3_000_000


def test_no_tracked_file_names_a_path_of_a_machine():
    found = [
        (path.relative_to(ROOT).as_posix(), part)
        for path in tracked()
        for part in MACHINE
        if part.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_tracked_file_names_a_package_index():
    found = []
    for path in tracked():
        data = path.read_bytes()
        parts = [part for part in INDEXES if part.encode() in data]
        parts += [match.decode() for match in HOSTS.findall(data)]
        found += [(path.relative_to(ROOT).as_posix(), part) for part in parts]
    assert found == []


def test_no_tracked_file_is_large():
    sizes = {
        path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked()
    }
    assert {name: n for name, n in sizes.items() if n > LARGEST_BYTES} == {}
