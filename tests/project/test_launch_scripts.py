"""The scripts that start training on several hosts give each process its place."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from saccade.model.training.config import load_saved, resolve
from tests.project.repository import ROOT

PAGE = ROOT / "docs/training-on-several-hosts.md"
JOB = ROOT / "docker/kubernetes/training/job.yaml"
SRUN = """\
for SLURM_PROCID in 0 1; do
    export SLURM_PROCID
    "${@:2}" || status=$?
done
exit ${status:-0}
"""
SCONTROL = 'case $1 in show) printf "node7\\nnode8\\n" ;; *) echo "$@" >> $LOG ;; esac'


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """An environment with commands that record their words instead of running."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "log"
    commands = {
        "saccade": 'echo "$@" >> $LOG; exit ${STATUS:-0}',
        "srun": SRUN,
        "scontrol": SCONTROL,
    }
    for name, text in commands.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "LOG": str(log)}


def slurm_script(runs: Path) -> str:
    (script,) = re.findall(r"```sh\n(#!/bin/bash.*?)```", PAGE.read_text(), re.S)
    return str(script).replace("/shared/runs", str(runs))


def run(script: str, environment: dict[str, str], *, shell: str = "bash") -> int:
    return subprocess.run([shell, "-c", script], env=environment).returncode


def words(environment: dict[str, str]) -> list[list[str]]:
    """Return what each process was called with."""
    return [line.split() for line in Path(environment["LOG"]).read_text().splitlines()]


def saved_run(runs: Path, task: str, name: str) -> Path:
    folder = runs / task / name
    (folder / "state/30").mkdir(parents=True)
    (folder / "config.yaml").write_text("system: {process: 0}\n")
    return folder


def places(calls: list[list[str]], resumed: Path | None) -> list[Any]:
    """Return each process's system settings, as the trainer reads them."""
    found = []
    for command, *rest in calls:
        assert command == "train"
        if resumed is None:
            found.append(resolve("config", rest)["system"])
        else:
            assert rest[0] == f"resume={resumed}"
            found.append(load_saved(resumed, rest[1:])["system"])
    return [(one["coordinator"], one["processes"], one["process"]) for one in found]


SLURM = {"SLURM_JOB_ID": "31", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NTASKS": "2"}
SLURM_PLACES = [("node7:20031", 2, place) for place in range(2)]


def test_a_slurm_job_begins_a_run_with_a_process_a_task(stand_ins, tmp_path):
    environment = stand_ins | SLURM
    assert run(slurm_script(tmp_path / "runs"), environment) == 0
    assert places(words(environment), None) == SLURM_PLACES


def test_a_slurm_job_that_comes_again_goes_on_with_its_own_run(stand_ins, tmp_path):
    task = "spiking-heidelberg-digits"
    saved_run(tmp_path, task, "2026-01-01_job30")
    ours = saved_run(tmp_path, task, "2026-01-01_job31")
    environment = stand_ins | SLURM
    assert run(slurm_script(tmp_path), environment) == 0
    assert places(words(environment), ours) == SLURM_PLACES


def test_a_slurm_job_whose_time_is_over_is_sent_again(stand_ins, tmp_path):
    environment = stand_ins | SLURM | {"STATUS": "130"}
    assert run(slurm_script(tmp_path), environment) == 130
    assert words(environment)[-1] == ["requeue", "31"]
    environment |= {"STATUS": "1"}
    assert run(slurm_script(tmp_path), environment) == 1
    assert words(environment)[-1] != ["requeue", "31"]


@pytest.mark.parametrize("resumed", [False, True])
def test_the_pods_of_a_job_meet_at_the_first(stand_ins, tmp_path, resumed):
    *_, job = yaml.safe_load_all(JOB.read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {one["name"]: one["value"] for one in container["env"]}
    assert given["PROCESSES"] == str(job["spec"]["completions"])
    environment = stand_ins | given | {"RUNS": str(tmp_path / "runs")}
    folder = saved_run(tmp_path / "runs", given["TASK"], "b") if resumed else None
    for index in range(2):
        own = environment | {"JOB_COMPLETION_INDEX": str(index)}
        assert run(container["args"][0], own, shell="sh") == 0
    first = f"{job['metadata']['name']}-0.{pod['subdomain']}:29400"
    assert places(words(environment), folder) == [(first, 2, place) for place in (0, 1)]
