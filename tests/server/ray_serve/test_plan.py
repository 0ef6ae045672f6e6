"""What a Serve config may say of the replicas."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from saccade.server.command_line import option_texts, settings_parser
from saccade.server.configuration import export
from saccade.server.ray_serve.autoscaling import LAG, OCCUPANCY
from saccade.server.ray_serve.errors import NoSharedStore, RayMissing
from saccade.server.ray_serve.local import (
    authorization,
    autoscaling_of,
    config_of,
    serve_with_ray,
    use_safe_defaults,
)
from saccade.server.ray_serve.plan import (
    Plan,
    check_store,
    of_replica,
    read_ports,
    read_settings,
)
from saccade.server.ray_serve.server_process import with_address
from saccade.server.setting_values import ReplicaBounds
from saccade.server.settings import Settings, advertised, resolve_settings

ROOT = Path(__file__).parents[3]
OLD_PYDANTIC = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""Ray's own models, as it is imported."""
NOWHERE = "redis://127.0.0.1:1/0"


def test_replicas_keep_their_sessions_in_redis_unless_told_otherwise():
    assert read_settings(Plan(), {}).store == "redis"


def test_a_config_wins_over_the_environment_of_the_node():
    environment = {"SACCADE_DRAIN_S": "3", "SACCADE_OPEN_S": "4"}
    settings = read_settings(Plan(settings={"drain_s": 7}), environment)
    assert (settings.drain_s, settings.open_s) == (7.0, 4.0)


def test_values_of_every_kind_are_read_as_from_the_environment():
    settings = {"no_watch": True, "origins": ["https://a", "https://b"], "slots": 9}
    read = read_settings(Plan(settings=settings), {})
    assert (read.no_watch, read.slots) == (True, 9)
    assert read.origins == ("https://a", "https://b")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"drain": 5}, "did you mean 'drain_s'"), ({"models": ["/m"]}, "user_config"),
     ({"port": 8000}, "ports"), ({"replica": "a"}, "names replicas")],
)  # fmt: skip
def test_a_setting_that_a_config_cannot_have_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Plan(settings=settings)


def test_an_argument_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="port_range"):
        Plan.model_validate({"port_range": "1-2"})


@pytest.mark.parametrize(
    ("text", "ports"),
    [("0", range(1)), ("8100", range(8100, 8101)), ("8100-8102", range(8100, 8103))],
)
def test_ports_are_one_or_a_range(text, ports):
    assert read_ports(text) == ports


@pytest.mark.parametrize("text", ["", "a", "2-1", "65535-65536", "-1"])
def test_what_are_no_ports_is_refused(text):
    with pytest.raises(ValueError, match="FIRST-LAST"):
        Plan(ports=text)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"store": "sqlite"}, "store is sqlite"), ({"snapshot_s": 0}, "snapshot_s is 0")],
)
def test_a_store_that_replicas_cannot_share_is_refused(settings, said):
    with pytest.raises(NoSharedStore, match=said):
        read_settings(Plan(settings=settings), {})


@pytest.mark.parametrize(
    "settings",
    [{"reload_s": 0}, {"advertise": "https://one.example:8000"}, {"host": "0.0.0.0"}],
)
def test_settings_that_do_not_suit_several_replicas_are_refused(settings):
    with pytest.raises(ValueError, match=r"reload_s|advertise|keys"):
        read_settings(Plan(settings=settings), {})


def test_a_redis_that_does_not_answer_is_named_with_what_to_do():
    settings = read_settings(Plan(settings={"store_url": NOWHERE}), {})
    with pytest.raises(NoSharedStore, match=r"does not answer.*--store-url"):
        check_store(settings)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://127.0.0.1:8101"),
        ({"host": "0.0.0.0", "insecure": True}, "http://10.0.0.7:8101"),
        ({"advertise": "https://{host}:{port}"}, "https://10.0.0.7:8101"),
        ({"advertise": "https://a.example:{port}/"}, "https://a.example:8101"),
    ],
)
def test_each_replica_advertises_its_own_address(settings, address):
    read = of_replica(read_settings(Plan(settings=settings), {}), "r1", ())
    found = advertised(with_address(read, "10.0.0.7", 8101), 8101)
    assert (found.advertise, found.replica) == (address, "r1")


def test_the_address_of_a_machine_with_ipv6_stands_in_brackets():
    settings = read_settings(Plan(settings={"host": "::", "insecure": True}), {})
    assert with_address(settings, "fd00::7", 8101).advertise == "http://[fd00::7]:8101"


def settings_of(*options: str) -> Settings:
    return Settings.read({}, texts_of(*options))


def texts_of(*options: str) -> dict[str, str | None]:
    return option_texts(settings_parser("saccade serve", "").parse_args([*options]))


def test_so_many_replicas_are_a_number_and_a_range_is_left_to_the_policy():
    fixed = config_of(settings_of("--replicas", "3"))["applications"][0]["deployments"]
    free = config_of(settings_of("--replicas", "1-4"))["applications"][0]["deployments"]
    assert fixed[0]["num_replicas"] == 3
    scaling = free[0]["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (1, 4)
    assert "num_replicas" not in free[0]


@pytest.mark.parametrize("text", ["0", "3-2", "many", "1-x"])
def test_replicas_that_are_no_number_are_refused(text):
    with pytest.raises(ValueError, match="replicas"):
        settings_of("--replicas", text)


def test_what_the_command_line_says_reaches_replicas_by_the_environment(tmp_path):
    options = ("--store-url", "redis://:pw@h/0", "--keys-file", "keys", "--slots", "5")
    options += ("--model", "a", "--model", "b")
    (file := tmp_path / "saccade.toml").write_text("drain_s = 7\n")
    texts = texts_of("--config", str(file), *options)
    resolved, environment = resolve_settings({}, texts), {}
    export(resolved, texts, environment)
    assert Settings.read(environment, {}).drain_s == 7
    assert environment == {
        "SACCADE_CONFIG": str(file),
        "SACCADE_STORE_URL": "redis://:pw@h/0",
        "SACCADE_KEYS_FILE": str(Path.cwd() / "keys"),
        "SACCADE_SLOTS": "5",
        "SACCADE_MODELS": f"{Path.cwd() / 'a'},{Path.cwd() / 'b'}",
    }
    assert "pw" not in str(config_of(settings_of(*options)))


def test_ray_asks_for_a_token_that_only_its_user_can_read(tmp_path):
    environment: dict[str, str] = {}
    use_safe_defaults(environment, tmp_path)
    file = Path(environment["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert authorization(environment) == {"Authorization": f"Bearer {file.read_text()}"}
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_worker_niceness"] == "0"
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_a_token_that_there_is_stays_and_so_does_what_the_operator_has_set(tmp_path):
    use_safe_defaults(first := {}, tmp_path)
    token = Path(first["RAY_AUTH_TOKEN_PATH"]).read_text()
    use_safe_defaults(second := {"RAY_worker_niceness": "5"}, tmp_path)
    assert Path(second["RAY_AUTH_TOKEN_PATH"]).read_text() == token
    assert second["RAY_worker_niceness"] == "5"


def test_ray_that_is_not_installed_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("saccade.server.ray_serve.local.find_spec", lambda name: None)
    with pytest.raises(RayMissing) as caught:
        serve_with_ray(settings_of("--ray"), 0.0)
    assert "saccade[ray]" in str(caught.value)


@OLD_PYDANTIC
def test_the_config_of_a_cluster_is_one_that_ray_and_replicas_take():
    from ray.serve.schema import ServeDeploySchema  # imports for seconds

    config = yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text())
    ServeDeploySchema(**config)
    (application,) = config["applications"]
    plan = Plan(**application["args"])
    assert read_settings(plan, {"SACCADE_KEYS_FILE": "keys"}).store == "redis"


@OLD_PYDANTIC
def test_the_policy_reaches_serves_controller_by_value():
    from ray.serve.config import AutoscalingConfig  # imports for seconds

    config = yaml.safe_load((ROOT / "docker/ray/serve.yaml").read_text())
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    read = AutoscalingConfig(**scaling)
    policy = read.policy.get_policy()(**read.policy.policy_kwargs)
    recorded = {OCCUPANCY: {"a": 0.9, "b": 0.9}, LAG: {"a": 0.0, "b": 0.0}}
    assert policy(Context(2, recorded))[0] == 3
    assert AutoscalingConfig(**autoscaling_of(ReplicaBounds(1, 4))).max_replicas == 4


class Context(NamedTuple):
    """What Ray Serve's context has, as far as the policy reads it."""

    target_num_replicas: int
    aggregated_metrics: dict[str, dict[str, float]]
