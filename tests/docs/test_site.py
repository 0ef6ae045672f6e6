"""The documentation is a site: whole, linked, and made of its own files alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.project.repository import tracked

pytest.importorskip("zensical", reason="the site's generator is not installed")

CONFIGURATION = ROOT / "zensical.toml"


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a folder that holds its configuration and its pages."""
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", built.stdout + built.stderr)
    built.stdout = said.partition("Traceback")[0]
    return built


def copy_pages(folder: Path) -> None:
    shutil.copy(CONFIGURATION, folder)
    for path in tracked():
        if path.is_relative_to(DOCS):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    copy_pages(folder)
    built = build(folder)
    assert built.returncode == 0, built.stdout
    return folder / project()["site_dir"]


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(CONFIGURATION.read_text())["project"]
    return found


def named(entries: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the pages of a navigation, section by section."""
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from named(target)


def test_every_page_is_in_the_navigation_once():
    listed = list(named(project()["nav"]))
    pages = {path.name for path in DOCS.glob("*.md")}
    assert sorted(listed) == sorted({*listed})
    assert pages <= {*listed}


def test_every_page_is_built(site):
    for path in DOCS.glob("*.md"):
        place = "index.html" if path.stem == "index" else f"{path.stem}/index.html"
        assert (site / place).is_file(), path.name


class Loads(HTMLParser):
    """What a page makes a browser load, without being asked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"script", "img", "iframe", "source", "audio", "video", "object"}:
            self.found.append(given.get("src") or given.get("data") or "")
        if tag == "link" and given.get("rel") not in {"canonical", "alternate"}:
            self.found.append(given.get("href") or "")


def test_no_page_loads_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    loaded = {load for page in pages for load in Loads(page.read_text()).found}
    assert loaded
    assert [load for load in loaded if re.match(r"(https?:)?//", load)] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text())


def test_every_link_inside_the_site_leads_to_a_file_of_it(site):
    """Also to what is no page: a picture, a notebook, a file of the repository."""
    broken = []
    for page in site.rglob("*.html"):
        for target in re.findall(r'(?:href|src)="?([^"\s>]+)', page.read_text()):
            if re.match(r"[a-z]+:|#|/", target):
                continue
            path = (page.parent / target.partition("#")[0]).resolve()
            inside = path.is_relative_to(site.resolve())
            if not (inside and (path.is_file() or (path / "index.html").is_file())):
                broken.append(f"{page.relative_to(site)}: {target}")
    assert broken == []


def test_no_fence_is_left_as_text(site):
    for page in site.rglob("*.html"):
        assert "```" not in page.read_text(), page


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path):
    copy_pages(tmp_path)
    page = tmp_path / "docs/index.md"
    page.write_text(page.read_text() + "\n[a](absent.md) [b](rest.md#absent)\n")
    built = build(tmp_path)
    assert built.returncode != 0
    assert "page does not exist" in built.stdout
    assert "anchor does not exist" in built.stdout


def slug(heading: str) -> str:
    """Return the anchor of a heading, as the site and code hosts make it."""
    text = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def test_every_link_between_files_of_the_repository_leads_somewhere():
    """Also those of pages that are not in the site, such as README.md."""
    broken = []
    for path in tracked():
        if path.suffix != ".md" or path.is_relative_to(ROOT / "clients/web"):
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = path.parent / name if name else path
            if not file.exists() or (anchor and not has_anchor(file, anchor)):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def has_anchor(file: Path, anchor: str) -> bool:
    headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
    return anchor in {slug(heading) for heading in headings}
