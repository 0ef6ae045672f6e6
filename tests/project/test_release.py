"""A release says what its changelog says, and names one version everywhere."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.project.repository import ROOT

CHANGELOG = """\
# Changelog

## [Unreleased]
{unreleased}
## [{version}] - 2026-12-01

### Added

- Something.

## [0.0.1] - 2026-01-01

- The first.
"""


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "release_notes", ROOT / ".ci/release_notes.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, release: ModuleType) -> Path:
    """The files of a checkout that name its version, as they are to be released."""
    for name in ("src/saccade/__init__.py", *release.PLACES):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    write_changelog(tmp_path, version=release.version_of(ROOT))
    return tmp_path


def write_changelog(folder: Path, version: str, unreleased: str = "") -> None:
    text = CHANGELOG.format(version=version, unreleased=unreleased)
    (folder / "CHANGELOG.md").write_text(text)


def test_every_file_that_names_the_version_names_the_code_s(release):
    assert release.disagreements(ROOT, None) == []


def test_the_notes_are_the_section_of_the_version(release, checkout, capsys):
    version = release.version_of(ROOT)
    assert release.main([f"v{version}"], checkout) == 0
    said = capsys.readouterr().out
    assert said == f"# Saccade {version} (2026-12-01)\n\n### Added\n\n- Something.\n"


def test_what_is_not_released_is_its_own_section(release, capsys):
    assert release.main([], ROOT) == 0
    assert capsys.readouterr().out.startswith("# Saccade ")


def test_a_tag_of_another_version_is_refused(release, checkout, capsys):
    assert release.main(["v9.9.9"], checkout) == 1
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("the tag is v9.9.9, and the code's version is ")


def test_a_changelog_without_the_version_is_refused(release, checkout):
    write_changelog(checkout, version="9.9.9")
    (wrong,) = release.disagreements(checkout, f"v{release.version_of(ROOT)}")
    assert re.fullmatch(r"CHANGELOG.md's newest section is not \[\S+\] - .*", wrong)


def test_entries_that_are_not_in_the_version_s_section_are_found(release, checkout):
    version = release.version_of(ROOT)
    write_changelog(checkout, version, unreleased="\n- Forgotten.\n")
    assert release.disagreements(checkout, f"v{version}") == [
        "CHANGELOG.md still has entries under [Unreleased]"
    ]


def test_a_file_that_was_not_bumped_is_named(release, checkout):
    path = checkout / "docker/kubernetes/base/kustomization.yaml"
    path.write_text(re.sub(r"newTag: .*", "newTag: 0.0.0", path.read_text()))
    (wrong,) = release.disagreements(checkout, None)
    assert wrong.startswith("docker/kubernetes/base/kustomization.yaml names 0.0.0;")


def test_the_version_comes_from_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "saccade.__version__"
    }


def test_a_release_is_made_with_the_packages_of_its_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {
        re.split(r"[><=]", line)[0]
        for line in project["optional-dependencies"]["release"]
    }
    script = (ROOT / ".ci/release").read_text()
    installed = re.search(r"-c constraints\.txt \\\n\s+(.*)\n", script)
    assert installed is not None
    assert {*installed[1].split()} == extra | {"zensical"}
