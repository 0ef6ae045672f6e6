"""docs/architecture.md names what is there, and no module outgrows its ceiling."""

from __future__ import annotations

import re

from tests.project.repository import ROOT, tracked

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+(?:\.py|\.yaml|/))`", PAGE)))
TABLES = re.findall(r"`(\w+)` in `([\w/]+\.py)`", PAGE)
LONGEST_LINES = 500


def test_every_file_and_folder_that_the_page_names_exists():
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    placeholder = "conf/task/NAME.yaml"
    missing = [
        named
        for named in NAMED
        if named != placeholder
        and not any(f"/{name}".endswith(f"/{named}") for name in names)
        and not any(f"/{named}" in f"/{name}" for name in names if named[-1] == "/")
    ]
    assert len(NAMED) > 40
    assert missing == []


def test_every_table_that_the_page_sends_to_is_in_its_file():
    assert len(TABLES) >= 6
    for name, file in TABLES:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text("utf-8")), name


def test_no_module_is_longer_than_a_sitting():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in tracked()
        if path.suffix == ".py"
        and path.relative_to(ROOT).parts[0] in {"model", "server", "clients", "src"}
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_LINES} == {}
