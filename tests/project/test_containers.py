"""The container files agree with each other and with the server."""

from __future__ import annotations

import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from fnmatch import fnmatch
from typing import Any

import pytest
import trustme
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


def test_the_image_exposes_the_port_that_the_server_listens_on():
    assert instruction("EXPOSE") == str(Settings().port)


def test_the_image_lets_nobody_in_who_has_no_key():
    """Whoever starts it gives keys, or says that everybody may come in."""
    entry = json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))
    assert entry == ["saccade", "serve"]
    assert "INSECURE=" not in instruction("ENV")
    with pytest.raises(ValueError, match=r"no keys; make one .*SACCADE_KEYS_FILE"):
        Settings.read(variables(), {})
    assert Settings.read({**variables(), "SACCADE_INSECURE": "true"}, {}).insecure


def variables() -> dict[str, str]:
    """Return the variables that the image sets."""
    pairs = [pair.partition("=") for pair in instruction("ENV").split()]
    return {name: value for name, _, value in pairs}


def test_the_image_is_stopped_by_the_signal_that_drains():
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_every_path_that_the_image_copies_is_here():
    for line in INSTRUCTIONS:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line


def test_every_path_that_the_image_copies_reaches_its_build():
    """`.dockerignore` leaves out everything but what it names."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for line in INSTRUCTIONS:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert any(fnmatch(source, pattern) for pattern in sent), source


def test_the_image_is_installed_by_the_script_that_ci_runs():
    (line,) = [line for line in INSTRUCTIONS if line.startswith("RUN docker/install")]
    assert line.split()[1:] == ["docker/install", "python", "/opt/saccade", '"$DEVICE"']
    assert "docker/install" in (ROOT / ".ci/wheel").read_text()
    assert os.access(ROOT / "docker/install", os.X_OK)


def test_a_device_that_there_is_no_image_for_is_refused_in_words(tmp_path):
    done = run_install(str(tmp_path / "prefix"), "tpu")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "DEVICE is tpu: give cpu, cuda12 or cuda13\n"


def test_the_image_of_a_device_takes_that_device_s_pinned_libraries():
    script = (ROOT / "docker/install").read_text()
    for extra in ("cuda12", "cuda13"):
        (line,) = [line for line in script.splitlines() if f",redis,{extra} " in line]
        assert f'pins="constraints.txt constraints-{extra}.txt"' in line
        assert (ROOT / f"constraints-{extra}.txt").is_file()


def run_install(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "docker/install"), sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_release_that_is_not_pinned_or_another_one_is_named(tmp_path):
    pins = tmp_path / "pins.txt"
    pins.write_text(
        "# comment\npytest==0.1\nPyYAML==9 ; python_version < '3.0'\nnumpy==1.0\n"
    )
    command = [sys.executable, ROOT / "docker/locked.py", sys.executable, pins]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    sentences = done.stderr.splitlines()
    pattern = r"pytest \S+ is installed, which is pinned at 0\.1"
    assert any(re.fullmatch(pattern, one) for one in sentences)
    assert any(re.fullmatch(r"pyyaml \S+ .* not pinned", one) for one in sentences)
    assert not any(one.startswith("saccade ") for one in sentences)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_the_health_check_finds_the_server_and_its_absence(secure):
    server = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("saccade.example").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        found = check_health(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert found.returncode == 0, found.stderr
    missed = check_health(server.server_port)
    assert missed.returncode == 1
    assert f"https://127.0.0.1:{server.server_port}/healthz" in missed.stderr


class Healthy(http.server.BaseHTTPRequestHandler):
    """Answers the health check's route alone."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep standard error for what fails."""


def check_health(port: int) -> subprocess.CompletedProcess[str]:
    """Run the image's health check as the image does."""
    command = json.loads(instruction("HEALTHCHECK").partition("CMD")[2])
    assert command == ["python", "/opt/saccade/share/health.py"]
    assert "COPY docker/health.py /opt/saccade/share/health.py" in FINAL_STAGE
    return subprocess.run(
        [sys.executable, ROOT / "docker/health.py"],
        env={"SACCADE_PORT": str(port)},
        capture_output=True,
        text=True,
    )


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


def test_prometheus_shows_the_key_that_compose_gives_it(compose):
    config = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (name,) = compose["services"]["prometheus"]["secrets"]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{name}"}
    assert compose["secrets"][name] == {"environment": "SACCADE_KEY"}


def test_grafana_is_provisioned_with_the_prometheus_and_the_dashboards(compose):
    folder = ROOT / "docker/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources.yaml").read_text())["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert compose["services"][host]["ports"] == [f"{LOOPBACK}{port}:{port}"]
    (shown,) = yaml.safe_load((folder / "dashboards.yaml").read_text())["providers"]
    targets = {s: target for s, target, _ in mounts(compose["services"]["grafana"])}
    assert targets["./grafana/dashboards"] == shown["options"]["path"]


def test_compose_asks_for_keys_or_an_explicit_choice(compose):
    environment = compose["services"]["saccade"]["environment"]
    assert environment["SACCADE_KEYS"] == "${SACCADE_KEYS:-}"
    assert environment["SACCADE_INSECURE"] == "${SACCADE_INSECURE:-false}"
    nothing = {"SACCADE_KEYS": "", "SACCADE_INSECURE": "false"}
    with pytest.raises(ValueError, match="there are no keys"):
        Settings.read({**variables(), **nothing}, {})


def test_compose_mounts_what_is_written_and_nothing_else_may_be(compose):
    server = compose["services"]["saccade"]
    assert server["read_only"]
    assert server["tmpfs"] == ["/tmp"]
    volumes = dict(volume.split(":") for volume in server["volumes"])
    assert volumes.keys() <= compose["volumes"].keys()
    assert variables()["XDG_CACHE_HOME"] == volumes["compiled"]
    assert variables()["XDG_STATE_HOME"] == volumes["sessions"]
