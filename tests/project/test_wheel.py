"""An installed Saccade is one package, whole, that clashes with nothing of a user's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

import pytest

from tests.own_folder import make_own_folder
from tests.project.repository import ROOT, tracked


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the source archive of the tracked files, links as links; a wheel of it."""
    source = tmp_path_factory.mktemp("source")
    for path in [*tracked(), *(ROOT / "src" / "saccade").iterdir()]:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.is_file():
            shutil.copy(path, copy, follow_symlinks=False)
    command = ["-m", "build", "--quiet", "--no-isolation", str(source)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def test_the_wheel_holds_exactly_one_package(names):
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"saccade"}


def test_the_wheel_holds_every_module_and_every_file_that_modules_read(names):
    folders = ("model", "server", "clients", "checkpoints", "src/saccade")
    wanted = {
        PurePosixPath("saccade", *path.relative_to(ROOT).parts[skipped:])
        for folder in folders
        for path in tracked()
        if path.is_relative_to(ROOT / folder)
        for skipped in [folder.count("/") * 2]
        if not only_in_the_repository(path)
    }
    assert wanted - set(names) == set()
    assert not any({"node_modules", "package.json"} & {*name.parts} for name in names)


def test_the_source_archive_holds_what_a_wheel_is_built_from_and_no_more(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = [PurePosixPath(name) for name in files.getnames()]
    assert {name.parts[0] for name in names} == {archive.name.removesuffix(".tar.gz")}
    inside = {str(PurePosixPath(*name.parts[1:])) for name in names}
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= inside
    folders = {name.parts[1] for name in names if len(name.parts) > 2}
    assert folders == {"src"}
    assert not any({"node_modules", "tests"} & {*name.parts} for name in names)


def only_in_the_repository(path):
    """Return whether a file serves to develop the JavaScript SDK, or to publish it."""
    parts = path.relative_to(ROOT).parts
    if parts[:2] != ("clients", "web"):
        return False
    developing = {".json", ".md", ".ts", ""}  # "" is of .npmrc
    return parts[2] == "test" or path.suffix in developing


def test_an_unpacked_wheel_is_importable_beside_a_users_own_modules(wheel, tmp_path):
    site = tmp_path / "site"
    shutil.unpack_archive(wheel, site, "zip")
    folder = make_own_folder(tmp_path / "own")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import saccade, saccade.clients.commands.cli, saccade.server.settings\n"
        "print(saccade.connect.__module__, saccade.__file__.startswith(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(site)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("saccade.clients.connection True\n", "")
