"""Which version of a model a replica's links lead to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from saccade.server.ray_serve.errors import VersionRefused
from saccade.server.ray_serve.versions import VersionLinks, read_versions
from saccade.server.reloading import stamp_of


def checkpoint(folder: Path, name: str, content_hash: str) -> Path:
    folder.mkdir()
    manifest = {"name": name, "content_hash": content_hash}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def links(tmp_path):
    first = checkpoint(tmp_path / "motions-1", "motions", "a1")
    other = checkpoint(tmp_path / "nmnist", "nmnist", "b1")
    place = tmp_path / "links"
    place.mkdir()
    return VersionLinks(place, read_versions([first, other]))


def served(links: VersionLinks) -> list[str]:
    found = [json.loads((one / "manifest.json").read_text()) for one in links.folders]
    return [one["content_hash"] for one in found]


def test_each_model_has_a_folder_of_its_own(links):
    assert served(links) == ["a1", "b1"]


def test_another_version_takes_the_place_of_one_at_the_same_path(links, tmp_path):
    before = links.folders
    second = checkpoint(tmp_path / "motions-2", "motions", "a2")
    changed = links.replace(read_versions([second, tmp_path / "nmnist"]))
    assert [one.content_hash for one in changed] == ["a2"]
    assert links.folders == before
    assert served(links) == ["a2", "b1"]


def test_a_link_to_files_as_old_and_as_large_is_a_change_to_hot_reload(links, tmp_path):
    second = checkpoint(tmp_path / "motions-2", "motions", "a2")
    status = (tmp_path / "motions-1" / "manifest.json").stat()
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(second / "manifest.json", ns=times)
    before = stamp_of(links.folders[0])
    links.replace(read_versions([second, tmp_path / "nmnist"]))
    assert stamp_of(links.folders[0]) != before


def test_the_version_that_is_served_is_no_change(links, tmp_path):
    copy = checkpoint(tmp_path / "copy", "motions", "a1")
    assert links.replace(read_versions([copy, tmp_path / "nmnist"])) == []


@pytest.mark.parametrize("names", [["motions"], ["motions", "nmnist", "dvs"]])
def test_other_models_are_refused(links, tmp_path, names):
    folders = [checkpoint(tmp_path / f"new-{name}", name, "c") for name in names]
    with pytest.raises(VersionRefused, match="serves motions, nmnist"):
        links.replace(read_versions(folders))
    assert served(links) == ["a1", "b1"]


def test_two_folders_of_one_model_are_refused(tmp_path):
    folders = [checkpoint(tmp_path / one, "motions", one) for one in ("1", "2")]
    with pytest.raises(VersionRefused, match="same name, 'motions'"):
        read_versions(folders)


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_a_folder_without_a_manifest_is_refused_by_its_path(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(VersionRefused, match=str(tmp_path)):
        read_versions([tmp_path])
