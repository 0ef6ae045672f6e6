"""Downloaded data sets are whole and have the publisher's sums, or are not there."""

from __future__ import annotations

import gzip
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from saccade.model.training import download as downloads
from saccade.model.training.download import download
from tests.model.training.fixtures import write_spikes

TASK = "spiking-heidelberg-digits"
FILES = ("shd_train.h5", "shd_test.h5")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Publisher(NamedTuple):
    url: str
    folder: Path
    archives: dict[str, bytes]


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    """A real server with archives and their sums, as the real publisher has them."""
    folder = tmp_path / "published"
    folder.mkdir()
    archives = {}
    for seed, name in enumerate(FILES):
        write_spikes(folder / name, ("eins", "zwei"), each=2, seed=seed)
        archives[name] = gzip.compress((folder / name).read_bytes())
        (folder / f"{name}.gz").write_bytes(archives[name])
    lines = [f"{hashlib.md5(a).hexdigest()}  {n}.gz" for n, a in archives.items()]
    (folder / "md5sums.txt").write_text("\n".join(lines) + "\n")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Publisher(f"http://127.0.0.1:{server.server_port}", folder, archives)
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(publisher: Publisher, out: Path, task: str = TASK) -> int:
    return download([task, "--out", str(out), "--source", publisher.url + "/"])


def test_a_data_set_is_fetched_checked_and_unpacked(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    assert fetched(publisher, out) == 0
    assert "2 files fetched and checked, 0 were there" in capsys.readouterr().out
    for name in FILES:
        assert (out / name).read_bytes() == (publisher.folder / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)


def test_existing_files_are_not_fetched_again(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    out.mkdir()
    (out / FILES[0]).write_bytes(b"mine")
    assert fetched(publisher, out) == 0
    assert "1 files fetched and checked, 1 were there" in capsys.readouterr().out
    assert (out / FILES[0]).read_bytes() == b"mine"
    assert download([TASK, "--out", str(out), "--source", "http://127.0.0.1:9"]) == 0


SPOILT = {
    "its MD5 sum is": lambda folder: (folder / "shd_test.h5.gz").write_bytes(b"x"),
    "answers 404": lambda folder: (folder / "shd_test.h5.gz").unlink(),
    "has no sum for it": lambda folder: (folder / "md5sums.txt").write_text("a b\n"),
    "md5sums.txt: the publisher": lambda folder: (folder / "md5sums.txt").unlink(),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_an_archive_that_fails_a_check_leaves_no_file(
    publisher: Publisher,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    reason: str,
) -> None:
    SPOILT[reason](publisher.folder)
    out = tmp_path / "data"
    assert fetched(publisher, out) == 1
    said = capsys.readouterr().err
    assert publisher.url in said
    assert reason in said
    assert {path.name for path in out.iterdir()} <= {"shd_train.h5"}


@pytest.fixture
def pinned(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """The server in the real publisher's place, with .zip archives and no list."""
    (publisher.folder / "md5sums.txt").unlink()
    for name in FILES:
        with zipfile.ZipFile(publisher.folder / f"{name}.zip", "w") as archive:
            archive.write(publisher.folder / name, name)
    monkeypatch.setattr(downloads, "PUBLISHER_URL", publisher.url)
    return publisher


def test_the_publishers_archives_are_checked_by_the_sums_in_this_repository(
    pinned: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download([TASK, "--out", str(tmp_path / "data")]) == 1
    expected = downloads.SUMS[TASK]["shd_train.h5.zip"]
    assert f"its MD5 sum is not {expected}" in capsys.readouterr().err
    assert list((tmp_path / "data").iterdir()) == []


def test_the_publishers_archives_are_unpacked(
    pinned: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = {f"{n}.zip": (pinned.folder / f"{n}.zip").read_bytes() for n in FILES}
    sums = {name: hashlib.md5(data).hexdigest() for name, data in archives.items()}
    monkeypatch.setattr(downloads, "SUMS", {TASK: sums})
    assert download([TASK, "--out", str(tmp_path / "data")]) == 0
    for name in FILES:
        found = (tmp_path / "data" / name).read_bytes()
        assert found == (pinned.folder / name).read_bytes()


def test_a_truncated_archive_is_an_error(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = publisher.archives["shd_test.h5"][:-20]
    (publisher.folder / "shd_test.h5.gz").write_bytes(cut)
    train = publisher.archives["shd_train.h5"]
    sums = {"shd_train.h5.gz": train, "shd_test.h5.gz": cut}
    lines = [f"{hashlib.md5(a).hexdigest()} *{name}" for name, a in sums.items()]
    (publisher.folder / "md5sums.txt").write_text("\n".join(lines))
    assert fetched(publisher, tmp_path / "data") == 1
    assert "it cannot be unpacked" in capsys.readouterr().err
    assert not (tmp_path / "data" / "shd_test.h5").exists()


def test_a_publisher_that_is_not_reached_is_one_line(
    tmp_path: Path, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    assert download([TASK, "--out", str(tmp_path), "--source", url]) == 1
    assert "the publisher is not reached" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["nmnist", "dvs-gesture"])
def test_data_sets_without_a_download_come_with_instructions(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download([task]) == 1
    assert "data_dir=FOLDER" in capsys.readouterr().err
