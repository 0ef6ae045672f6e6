"""The container files agree with each other and with the server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from saccade.server.settings import Settings
from tests.project.repository import ROOT

INSTRUCTIONS = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
FINAL_STAGE = INSTRUCTIONS[
    max(n for n, line in enumerate(INSTRUCTIONS) if line.startswith("FROM ")) :
]
LOOPBACK = "127.0.0.1:"


def instruction(name: str) -> str:
    """Return the arguments of an instruction that the final stage has once."""
    (line,) = [line for line in FINAL_STAGE if line.startswith(name + " ")]
    return line.removeprefix(name).strip()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    return found


@pytest.fixture(scope="module")
def scraped() -> list[str]:
    """What Prometheus is told to scrape."""
    config = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())
    return [
        target
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    ]


def test_the_image_runs_as_a_user_without_rights():
    user = instruction("USER")
    assert int(user) > 0
    assert any(f"--uid {user} " in line for line in FINAL_STAGE)


def test_the_image_checks_its_own_health_on_the_port_that_it_exposes():
    check = instruction("HEALTHCHECK")
    port = Settings().port
    assert instruction("EXPOSE") == str(port)
    assert f"{LOOPBACK}{port}/healthz" in check
    command = json.loads(check.partition("CMD")[2])
    compile(command[-1], "HEALTHCHECK", "exec")


def test_the_image_is_stopped_by_the_signal_that_drains():
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_every_path_that_the_image_copies_is_here():
    for line in INSTRUCTIONS:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line


def test_the_image_takes_the_pinned_versions():
    assert any("-c constraints.txt" in line for line in INSTRUCTIONS)


def test_the_image_of_a_device_takes_that_device_s_pinned_libraries():
    """`DEVICE` is an extra, whose libraries are in a file of constraints."""
    (line,) = [line for line in INSTRUCTIONS if "pip install" in line]
    for extra in ("cuda12", "cuda13"):
        assert f"constraints-{extra}.txt" in "".join(INSTRUCTIONS)
        assert (ROOT / f"constraints-{extra}.txt").is_file()
    assert "exit 1" in line, "another device is refused"


def test_prometheus_scrapes_the_server_by_its_name_and_port(compose, scraped):
    assert scraped == [f"saccade:{Settings().port}"]
    assert scraped[0].partition(":")[0] in compose["services"]


def test_compose_publishes_on_loopback_only_the_ports_that_are_listened_on(compose):
    published = {
        name: service["ports"] for name, service in compose["services"].items()
    }
    port = Settings().port
    assert published["saccade"] == [f"{LOOPBACK}{port}:{port}"]
    assert published["prometheus"] == [f"{LOOPBACK}9090:9090"]
    assert published["grafana"] == [f"{LOOPBACK}3000:3000"]


def test_compose_gives_the_server_more_time_to_stop_than_it_takes(compose):
    grace_s = float(compose["services"]["saccade"]["stop_grace_period"].rstrip("s"))
    assert grace_s > 2 * Settings().drain_s


def test_compose_on_gpus_changes_that_server_and_asks_for_a_gpu(compose):
    text = (ROOT / "docker/compose.gpu.yaml").read_text()
    changed = yaml.safe_load(text)["services"]
    assert changed.keys() <= compose["services"].keys()
    default = changed["saccade"]["environment"]["SACCADE_DEVICE"]
    asked = re.fullmatch(r"\$\{SACCADE_DEVICE:-(.+)\}", default)
    assert asked is not None
    assert Settings.read({"SACCADE_DEVICE": asked[1]}, {}).device.platform == "cuda"


def test_compose_starts_a_server_again_whose_device_was_lost(compose):
    assert compose["services"]["saccade"]["restart"] in {"always", "unless-stopped"}


def test_what_compose_mounts_and_builds_is_here(compose):
    services = compose["services"]
    for name in ("prometheus", "grafana"):
        for source, _, mode in mounts(services[name]):
            assert (ROOT / "docker" / source).exists()
            assert mode == "ro"
    config = mounts(services["prometheus"])[0][1]
    assert f"--config.file={config}" in services["prometheus"]["command"]
    context = ROOT / "docker" / services["saccade"]["build"]["context"]
    assert (context / "Dockerfile").is_file()
    condition = services["prometheus"]["depends_on"]["saccade"]["condition"]
    assert condition == "service_healthy"


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the source, the target and the mode of each folder or file mounted."""
    found = []
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        found.append((source, target, mode))
    return found


def test_prometheus_finds_its_alerts_beside_its_configuration(compose):
    config = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())
    targets = [target for _, target, _ in mounts(compose["services"]["prometheus"])]
    beside = targets[0].rpartition("/")[0]
    assert [f"{beside}/{name}" for name in config["rule_files"]] == targets[1:]


def test_grafana_is_provisioned_with_the_prometheus_and_the_dashboards(compose):
    folder = ROOT / "docker/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources.yaml").read_text())["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert compose["services"][host]["ports"] == [f"{LOOPBACK}{port}:{port}"]
    (shown,) = yaml.safe_load((folder / "dashboards.yaml").read_text())["providers"]
    targets = {s: target for s, target, _ in mounts(compose["services"]["grafana"])}
    assert targets["./grafana/dashboards"] == shown["options"]["path"]


def test_the_volume_of_compiled_code_is_where_the_image_keeps_it(compose):
    volumes = dict(
        volume.split(":") for volume in compose["services"]["saccade"]["volumes"]
    )
    assert volumes.keys() <= compose["volumes"].keys()
    assert f"XDG_CACHE_HOME={volumes['compiled']}" in instruction("ENV")
