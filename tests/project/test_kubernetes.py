"""The Kubernetes files are valid, and agree with each other and with the server."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from saccade.server.setting_values import variable
from saccade.server.settings import Settings
from saccade.server.transport.metrics import Metrics
from tests.project.repository import ROOT
from tests.toy import toy_model

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="the validator of Kubernetes files is not installed"
)

FOLDER = ROOT / "docker/kubernetes"
OLDEST, NEWEST = "1.32", kubernetes_validate.latest_version()
FOREIGN = ("Kustomization", "PrometheusRule", "ServiceMonitor")
"""Kinds that Kubernetes itself does not have."""
NAME = "app.kubernetes.io/name"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def all_documents() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.rglob("*.yaml")):
        for document in documents(path):
            yield f"{path.parent.name}/{path.name}", document


def the(kind: str, name: str = "saccade") -> dict[str, Any]:
    (found,) = (
        document
        for where, document in all_documents()
        if where.startswith("base/")
        and document["kind"] == kind
        and document["metadata"]["name"] == name
    )
    return found


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    found: dict[str, Any] = the("Deployment")["spec"]["template"]["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_resource_is_valid_and_no_field_is_unknown(version):
    checked = []
    for where, document in all_documents():
        # A patch has what it changes alone, and is checked once it is merged, below.
        if document["kind"] not in FOREIGN and where != "cuda/gpu.yaml":
            kubernetes_validate.validate(document, version, strict=True)
            checked.append(document["kind"])
    assert len(checked) >= 7


def test_the_gpu_patch_makes_a_valid_deployment():
    (patch,) = documents(FOLDER / "cuda/gpu.yaml")
    merged = copy.deepcopy(the("Deployment"))
    assert patch["metadata"]["name"] == merged["metadata"]["name"]
    (container,) = merged["spec"]["template"]["spec"]["containers"]
    (changes,) = patch["spec"]["template"]["spec"]["containers"]
    assert changes.keys() == {"name", "resources"}
    assert changes["name"] == container["name"]
    container["resources"] = changes["resources"]
    kubernetes_validate.validate(merged, NEWEST, strict=True)


def test_the_check_finds_a_misspelt_field():
    wrong = copy.deepcopy(the("Deployment"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


@pytest.mark.parametrize("folder", ["base", "cuda", "training"])
def test_a_kustomization_names_every_file_beside_it(folder):
    (found,) = documents(FOLDER / folder / "kustomization.yaml")
    named = [*found["resources"], *(one["path"] for one in found.get("patches", ()))]
    beside = {path.name for path in (FOLDER / folder).iterdir()}
    assert {one for one in named if "/" not in one} == beside - {"kustomization.yaml"}
    for one in named:
        assert (FOLDER / folder / one).exists()


def test_the_image_is_the_one_that_kustomize_renames(container):
    (base,) = documents(FOLDER / "base/kustomization.yaml")
    (cuda,) = documents(FOLDER / "cuda/kustomization.yaml")
    assert base["images"][0]["name"] == container["image"]
    assert cuda["images"][0]["name"] == base["images"][0]["newName"]


def test_a_pod_may_take_longer_to_end_than_its_drain(pod, container, environment):
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(environment["SACCADE_DRAIN_S"])
    assert pod["terminationGracePeriodSeconds"] >= pause_s + drain_s + 10


def test_every_variable_is_a_setting_that_reads_its_value(environment):
    assert set(environment) <= {variable(item) for item in fields(Settings)}
    settings = Settings.read(environment, {"host": "127.0.0.1"})
    assert settings.store == "redis"


def test_pods_serve_with_the_keys_of_a_secret(pod, container):
    command, option, path = container["args"]
    assert (command, option) == ("serve", "--keys-file")
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == "keys"]
    assert path == f"{mount['mountPath']}/keys"
    (volume,) = [v for v in pod["volumes"] if v["name"] == "keys"]
    assert "secret" in volume


def test_sessions_are_kept_in_the_redis_that_is_deployed(environment):
    service, redis = (
        the("Service", "saccade-redis"),
        the("StatefulSet", "saccade-redis"),
    )
    port = service["spec"]["ports"][0]["port"]
    assert environment["SACCADE_STORE_URL"] == f"redis://saccade-redis:{port}/0"
    (container,) = redis["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == port
    arguments = " ".join(container["args"])
    assert "--appendonly yes --appendfsync always" in arguments
    assert redis["spec"]["serviceName"] == service["metadata"]["name"]


def test_probes_ask_the_servers_own_routes_at_its_port(container):
    (port,) = container["ports"]
    assert port["containerPort"] == Settings().port
    paths = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert paths == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }
    assert {container[name]["httpGet"]["port"] for name in paths} == {port["name"]}


def test_everything_selects_the_deployments_pods():
    labels = the("Deployment")["spec"]["template"]["metadata"]["labels"]
    chosen = [
        the("Deployment")["spec"]["selector"]["matchLabels"],
        the("Service")["spec"]["selector"],
        the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    assert all(one.items() <= labels.items() for one in chosen)
    target = the("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "saccade")
    policy = the("NetworkPolicy", "saccade-redis")["spec"]
    redis = the("StatefulSet", "saccade-redis")["spec"]["template"]["metadata"]
    assert policy["podSelector"]["matchLabels"] == redis["labels"]
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == labels


def test_prometheus_scrapes_the_services_port():
    monitor, service = the("ServiceMonitor")["spec"], the("Service")
    labels = monitor["selector"]["matchLabels"]
    assert labels.items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {one["name"] for one in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"


def test_the_alerts_are_those_of_the_compose_file():
    rules = yaml.safe_load((ROOT / "docker/alerts.yml").read_text())
    assert the("PrometheusRule")["spec"] == rules


@pytest.fixture(scope="module")
def types() -> dict[str, str]:
    """Every metric of a server with one model, and its type."""
    metrics = Metrics([toy_model()])
    return {family.name: family.type for family in metrics.registry.collect()}


def test_the_autoscaler_reads_gauges_that_the_server_has(types):
    asked = [
        one["pods"]["metric"]["name"]
        for one in the("HorizontalPodAutoscaler")["spec"]["metrics"]
    ]
    assert asked
    assert [types[name] for name in asked] == ["gauge"] * len(asked)


def test_the_autoscaler_keeps_what_a_rolling_update_and_a_lost_pod_need():
    deployment, scaler = the("Deployment")["spec"], the("HorizontalPodAutoscaler")
    assert scaler["spec"]["minReplicas"] >= 2
    assert deployment["replicas"] == scaler["spec"]["minReplicas"]
    update = deployment["strategy"]["rollingUpdate"]
    assert update == {"maxSurge": 1, "maxUnavailable": 0}


def test_no_container_may_become_root():
    for kind, name in (("Deployment", "saccade"), ("StatefulSet", "saccade-redis")):
        spec = the(kind, name)["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        for one in spec["containers"]:
            assert not one["securityContext"]["allowPrivilegeEscalation"]
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    (user,) = re.findall(r"^USER (\d+)", (ROOT / "Dockerfile").read_text(), re.M)
    pod = the("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(user)


def test_every_metric_and_secret_of_the_page_exists(types):
    page = (ROOT / "docs/deploy.md").read_text()
    named = set(re.findall(r"\bsaccade_[a-z_]+[a-z]\b", page))
    assert named
    assert {name.removesuffix("_total") for name in named} <= types.keys()
    text = (FOLDER / "base/deployment.yaml").read_text()
    text += (FOLDER / "base/service-monitor.yaml").read_text()
    for secret in re.findall(r"create secret generic (\S+)", page):
        assert secret in text


def test_no_service_sets_a_variable_of_the_servers(pod):
    """Kubernetes gives a pod NAME_PORT for each Service beside it, unless told not to.

    The Service's name makes that the setting `port`.
    """
    names = {the("Service")["metadata"]["name"].upper() + "_PORT"}
    assert names & {variable(item) for item in fields(Settings)}
    assert pod["enableServiceLinks"] is False
