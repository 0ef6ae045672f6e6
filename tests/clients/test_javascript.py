"""The JavaScript SDK, run by Node: types, the protocol's bytes, and a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from saccade.clients.commands.server_process import ServerProcess

WEB = Path(__file__).parents[2] / "clients" / "web"
MODULES = WEB / "node_modules"

pytestmark = pytest.mark.skipif(
    shutil.which("npm") is None or not MODULES.is_dir(),
    reason="needs Node, and `npm ci` in clients/web",
)


def run(*command: str, folder: Path = WEB, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_types_of_sdk_and_page_are_sound() -> None:
    run("npx", "--no-install", "tsc", "--noEmit")


def test_the_bytes_are_those_of_the_protocol() -> None:
    report = run("node", "--test", "test/vectors.test.js", "test/outgoing.test.js")
    assert "# fail 0" in report
    assert "# skipped 0" in report


def test_sessions_follow_a_scripted_server() -> None:
    report = run("node", "--test", "--test-timeout=60000", "test/scripted.test.js")
    assert "# fail 0" in report
    assert "# skipped 0" in report


def test_the_package_holds_the_sdk_and_can_be_imported(tmp_path: Path) -> None:
    packed = json.loads(
        run("npm", "pack", "--json", "--pack-destination", f"{tmp_path}")
    )
    names = {file["path"] for file in packed[0]["files"]}
    modules = {path.name for path in WEB.glob("*.js")}
    assert names == modules | {"package.json", "README.md"}
    home = tmp_path / "node_modules" / "saccade-client"
    home.mkdir(parents=True)
    archive = tmp_path / packed[0]["filename"]
    run("tar", "xzf", f"{archive}", "-C", f"{home}", "--strip-components=1")
    program = 'import { connect } from "saccade-client"; console.log(typeof connect)'
    printed = run("node", "--input-type=module", "-e", program, folder=tmp_path)
    assert printed.strip() == "function"


@pytest.mark.slow
def test_sessions_of_a_real_server_keep_the_promises_of_the_protocol() -> None:
    with ServerProcess() as server:
        server.wait_until_ready(lambda text: None)
        command = ("node", "--test", "--test-timeout=300000", "test/session.test.js")
        report = run(*command, SACCADE_URL=server.url)
    assert "# fail 0" in report
    assert "# skipped 0" in report
