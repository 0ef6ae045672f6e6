"""The pages for users are run as they stand, from their first command to their last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks

RECORDING = ROOT.parent / "shared/recordings/evt3_640x480.raw"

pytestmark = pytest.mark.slow


def script_of(page: Path) -> str:
    """Return a page's commands as one script, which writes the page's files, too.

    It waits for a server as long as that takes on a machine that does other work.
    """
    parts = ["set -euo pipefail"]
    for block in blocks(page):
        if block.language == "sh":
            parts.append(block.text)
        elif block.title:
            parts.append(
                f"cat > {block.title} <<'END_OF_FILE'\n{block.text}END_OF_FILE"
            )
    return "\n".join(parts).replace("--wait-s 300", "--wait-s 3000")


def run_page(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's commands in a folder, with a network of its own: its port is free.

    What the commands leave running ends with them.
    """
    alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*alone, "ip", "link", "set", "lo", "up"], check=False)
    if probe.returncode != 0:
        pytest.skip("no network of its own can be made here, and the port may be taken")
    commands = folder / "bin"
    commands.mkdir()
    for command, words in (("saccade", "-m saccade"), ("python", "")):
        (commands / command).write_text(
            f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n'
        )
        (commands / command).chmod(0o755)
    environment = {
        **{
            key: os.environ[key] for key in os.environ if not key.startswith("SACCADE_")
        },
        "PATH": f"{commands}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    script = "ip link set lo up\n" + script_of(DOCS / name)
    return subprocess.run(
        [*alone, "bash", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(not RECORDING.is_file(), reason=f"no recording in {RECORDING}")
def test_the_engineer_s_first_five_minutes(tmp_path: Path) -> None:
    shutil.copyfile(RECORDING, tmp_path / "drive.raw")
    done = run_page("engineer.md", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sensor     640x480, from the file's header" in done.stdout
    assert "343,474 sent" in done.stdout
    assert "right" in done.stdout.splitlines()[-1]
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["events_sent"] == 343_474


def test_the_operator_s_first_five_minutes(tmp_path: Path) -> None:
    """Keys, TLS, a scrape, a kill that a client survives, a stop."""
    done = run_page("operator.md", tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'saccade_events_scored_total{model="motions"}' in done.stdout
    assert "the connection was lost" in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["type"] == "summary"
    assert summary["events_dropped"] == summary["events_refused"] == 0
    assert (
        summary["events_scored"] + summary["events_pending"] == (summary["events_sent"])
    )
    assert "saccade_" not in (tmp_path / "keys").read_text()
