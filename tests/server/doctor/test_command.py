"""`saccade doctor` as a user runs it: it names planted faults, and passes without."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

import saccade
from saccade.checkpoints import released
from saccade.server.doctor.command import doctor
from saccade.server.setting_values import toml_text

FEW_FILES = 128


class Late(BaseHTTPRequestHandler):
    """A server whose clock is an hour slow."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        late = datetime.now(UTC) - timedelta(hours=1)
        return late.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture
def late_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def expired_certificate(folder: Path) -> Path:
    path = folder / "expired.pem"
    then = datetime.now(UTC) - timedelta(days=2)
    issued = trustme.CA().issue_cert("127.0.0.1", not_after=then)
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def broken_checkpoint(folder: Path) -> Path:
    """Return a copy of a released checkpoint with one wrong byte in its weights."""
    path = folder / "broken"
    shutil.copytree(released()[0], path)
    weights = max((path / "weights").rglob("*"), key=lambda file: file.stat().st_size)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 255
    weights.write_bytes(data)
    return path


def test_it_names_each_of_seven_planted_faults(
    tmp_path: Path, taken_port: int, late_server: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "keys").write_text("robot-7: this is no hash\n")
    lines = {
        "port": taken_port,
        "store_path": str(tmp_path / "file" / "sessions.sqlite"),
        "tls_cert": str(expired_certificate(tmp_path)),
        "models": [str(broken_checkpoint(tmp_path))],
        "keys_file": "keys",
    }
    file = tmp_path / "saccade.toml"
    file.write_text("".join(f"{key} = {json.dumps(lines[key])}\n" for key in lines))
    few = ["sh", "-c", f'ulimit -n {FEW_FILES} && exec "$@"', "sh"]
    command = [sys.executable, "-m", "saccade", "doctor", "--json"]
    command += ["--config", str(file), "--against", late_server]
    ended = subprocess.run([*few, *command], capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr
    report = json.loads(ended.stdout)
    assert report["status"] == "fault"
    faults = {each["check"]: each for each in report["findings"]
              if each["level"] == "fault"}  # fmt: skip
    expected = {
        "port": "another program listens there",
        "store": "file: Not a directory",
        "certificate": "has expired",
        "checkpoints": "broken",
        "files": f"a process may have {FEW_FILES} files open",
        "clock": "s ahead of that of http://127.0.0.1",
        "keys": "key 1 is not NAME:SHA256",
    }
    assert set(faults) == set(expected)
    for check, words in expected.items():
        assert words in faults[check]["text"]
        assert faults[check]["remedy"]


def test_a_server_with_nothing_wrong_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_PORT", "0")
    monkeypatch.setenv("SACCADE_STORE_PATH", str(tmp_path / "new" / "sessions.sqlite"))
    assert doctor(["--device", "cpu", "--model", str(released()[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    level_of = {
        line.split()[1]: line.split()[0] for line in lines[:-1] if line[0] != " "
    }
    assert not (tmp_path / "new").exists(), "it leaves nothing behind"
    named = {"settings", "versions", "port", "keys", "certificate", "clock", "store"}
    sound = {check for check, level in level_of.items() if level == "ok"}
    assert named | {"compilers", "device", "checkpoints"} <= sound
    assert "fault" not in lines[-1]


def test_settings_that_no_server_takes_are_the_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "saccade.toml"
    file.write_text(f"prot = 1\nhost = {toml_text('x')}\n")
    assert doctor(["--json", "--config", str(file)]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["check"] == "settings"
    assert "did you mean 'port'?" in finding["text"]


def levels(report: dict[str, Any]) -> dict[str, str]:
    return {each["check"]: each["level"] for each in report["findings"]}


def test_where_jax_is_missing_it_says_so_and_checks_the_rest() -> None:
    """Without any package but Saccade itself, whose sources are on the path."""
    command = [sys.executable, "-S", "-m", "saccade", "doctor", "--json"]
    ended = subprocess.run(
        [*command, "--port", "0", "--store", "memory"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(saccade.__file__).parents[1])},
    )
    assert ended.returncode == 1, ended.stderr
    report = json.loads(ended.stdout)
    found = levels(report)
    assert (found["device"], found["checkpoints"]) == ("fault", "warning")
    assert (found["port"], found["keys"], found["certificate"]) == 3 * ("ok",)
    (device,) = (each for each in report["findings"] if each["check"] == "device")
    assert "JAX is not installed" in device["text"]
