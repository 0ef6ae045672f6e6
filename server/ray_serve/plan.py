"""What a Serve config says of the replicas, read and checked.

Settings are those of `saccade serve`, by name. Those that the config leaves out come
from the environment of the node that a replica runs on, which is where secrets belong:
Ray shows a config to whoever may see its dashboard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from saccade.server.configuration import DEFAULT, remedy_for
from saccade.server.ray_serve.errors import NoSharedStore
from saccade.server.redis_address import FAILURES, RedisAddress
from saccade.server.settings import Settings, in_fleet, resolve_settings

Value = str | bool | int | float | list[str]
LARGEST_PORT: Final = 65_535
OTHERWISE: Final = {
    "models": "user_config of the deployment, so that they can be changed replica by "
    "replica",
    "port": "ports, of which each replica takes one",
    "replica": "Ray, which names replicas",
}
"""Settings that something else decides about, and what."""


class Plan(BaseModel):
    """The arguments of the application in a Serve config.

    Attributes:
        settings: Settings of `saccade serve`, by name.
        ports: `FIRST-LAST`, of which each replica on a node takes a free one; 0: any.
        cpus: CPUs of Ray's that a replica takes.
        gpus: GPUs that it takes; None: one where the cluster has any.
    """

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Value] = Field(default_factory=dict)
    ports: str = "0"
    cpus: float = Field(default=1, ge=0)
    gpus: float | None = Field(default=None, ge=0)

    @field_validator("settings")
    @classmethod
    def _are_known(cls, settings: dict[str, Value]) -> dict[str, Value]:
        names = [item.name for item in fields(Settings)]
        for name, value in settings.items():
            if name in OTHERWISE:
                raise ValueError(f"{name} is decided by {OTHERWISE[name]}")
            if name not in names:
                remedy = remedy_for(name, value, names)
                raise ValueError(f"there is no setting {name!r}; {remedy}")
        return settings

    @field_validator("ports", mode="before")
    @classmethod
    def _are_ports(cls, ports: Any) -> str:
        read_ports(str(ports))
        return str(ports)


def read_ports(text: str) -> range:
    """Read `8100-8199`, one port, or 0 for any free one.

    Raises:
        ValueError: The text is none of these.
    """
    first, _, last = text.partition("-")
    try:
        ports = range(int(first), int(last or first) + 1)
    except ValueError:
        raise ValueError(f"ports {text!r} is not FIRST-LAST") from None
    if not ports or not 0 <= ports[0] <= ports[-1] <= LARGEST_PORT:
        raise ValueError(f"ports {text!r} is not FIRST-LAST within 0..{LARGEST_PORT}")
    return ports


def read_settings(plan: Plan, environment: Mapping[str, str]) -> Settings:
    """Return the settings of a replica, but for what differs between replicas.

    Args:
        plan: The application's arguments.
        environment: Of the node.

    Raises:
        ValueError: A setting is out of range, or does not suit several replicas.
        NoSharedStore: The store is not Redis.
    """
    texts: dict[str, str | None] = {n: _text(v) for n, v in plan.settings.items()}
    resolved = resolve_settings(environment, texts)
    if resolved.origins["store"] == DEFAULT:
        resolved.values["store"] = "redis"
    settings = Settings(**resolved.values)
    if not in_fleet(settings):
        said = f"store is {settings.store}"
        if settings.store == "redis":
            said = f"snapshot_s is {settings.snapshot_s:g}"
        raise NoSharedStore(f"the settings say that {said}")
    if settings.advertise and "{port}" not in settings.advertise:
        raise ValueError(
            f"advertise {settings.advertise!r} would be the address of every replica; "
            "write https://{host}:{port}, which each fills in"
        )
    if settings.reload_s == 0:
        raise ValueError("reload_s is 0; a new version of a model would not be served")
    return settings


def check_store(settings: Settings) -> None:
    """Raise unless Redis answers.

    Raises:
        NoSharedStore: It does not; says why.
    """
    try:
        RedisAddress.read(settings.store_url).probe()
    except ValueError as error:
        raise NoSharedStore(f"store_url is none: {error}") from None
    except FAILURES as error:
        raise NoSharedStore(f"it does not answer: {error}") from None


def of_replica(settings: Settings, name: str, models: tuple[Path, ...]) -> Settings:
    """Return the settings of one replica, but for its address."""
    return replace(settings, replica=name, models=models)


def _text(value: Value) -> str:
    """Write a value as its environment variable would hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
