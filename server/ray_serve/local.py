"""`saccade serve --ray`: Ray, Serve and replicas on this machine, until a stop signal.

Ray's own processes end with this one. On several machines an operator starts Ray on
each, and deploys a config (docs/deploy.md).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError

from saccade.server.listening import listen
from saccade.server.logs import JOURNAL, about
from saccade.server.ray_serve.errors import RayFailed, RayMissing
from saccade.server.ray_serve.plan import Plan, check_store, read_settings
from saccade.server.serving import progress
from saccade.server.setting_values import ReplicaBounds
from saccade.server.settings import Settings

APPLICATION: Final = "saccade"
REQUEST_S: Final = 10
"""How long the placement of a session may take at Serve's proxy, s."""
OBJECT_BYTES: Final = 100 << 20
"""Ray's shared memory for objects, of which this application has none."""
ANSWER_S: Final = 120.0
POLL_S: Final = 0.5
STARTS: Final = 3
"""Attempts to start Ray, which gives up after 30 s where the machine is busy."""
TOKEN_FILE: Final = Path(".ray") / "auth_token"
"""Where Ray and its commands look for the cluster's token, in the home folder."""
SAFE: Final = {
    "RAY_AUTH_MODE": "token",  # who reaches Ray's ports may run anything
    "RAY_worker_niceness": "0",  # else replicas run behind everything else
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",  # else one that hangs is waited for
    "RAY_kill_child_processes_on_worker_exit": "false",  # servers drain first
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray then takes this machine's address to be 127.0.0.1, and listens there alone.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
"""What Ray reads in the environment as it starts, where the operator has not set it."""


def serve_with_ray(settings: Settings, started_s: float) -> int:
    """Have Ray Serve run replicas until a stop signal; return the exit status.

    Args:
        settings: As `saccade serve` was given them; host and port are those of the
            placement.
        started_s: When the start began, by `time.perf_counter`.

    Raises:
        RayServeError: Ray, Redis or a replica does not work.
        CannotListen: The address cannot be listened on.
        ValueError: A setting does not suit several replicas.
    """
    if find_spec("ray") is None:
        raise RayMissing
    check_store(read_settings(Plan(), os.environ))
    for probe in listen(settings.host, settings.port):
        probe.close()
    use_safe_defaults(os.environ, Path.home())
    dashboard = start_ray()
    try:
        deploy(dashboard, config_of(settings), os.environ)
        return run(settings, started_s)
    finally:
        end_ray()


def use_safe_defaults(environment: MutableMapping[str, str], home: Path) -> None:
    """Set what Ray reads as it is imported, here and in its processes.

    Args:
        environment: The process's.
        home: The user's folder, where a token is made if there is none.
    """
    for name, value in SAFE.items():
        environment.setdefault(name, value)
    if environment["RAY_AUTH_MODE"] != "token" or "RAY_AUTH_TOKEN" in environment:
        return
    file = Path(environment.setdefault("RAY_AUTH_TOKEN_PATH", str(home / TOKEN_FILE)))
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(secrets.token_hex(32))


def start_ray() -> str:
    """Start Ray on this machine; return the address of its dashboard.

    Raises:
        RayFailed: It does not start.
    """
    import ray

    for left in reversed(range(STARTS)):
        try:
            context = ray.init(
                address="local",
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                object_store_memory=OBJECT_BYTES,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except Exception as error:  # which is what Ray raises
            end_ray()
            if not left:
                raise RayFailed(f"Ray does not start: {error}") from error
            said = "Ray does not start, and is tried again: %s"
            JOURNAL.warning(said, error, extra=about("ray"))
        else:
            break
    place = f"http://{context.dashboard_url}"
    JOURNAL.info("Ray's dashboard is on %s", place, extra=about("ray"))
    return place


def end_ray() -> None:
    """End Ray's processes, all of which this one has started."""
    import ray

    ray.shutdown()


def config_of(settings: Settings) -> dict[str, Any]:
    """Return the Serve config of one machine; docker/ray/serve.yaml is a cluster's."""
    deployment: dict[str, Any] = {
        "name": "Replica",
        "user_config": {"models": [str(one.absolute()) for one in settings.models]},
    }
    least, most = settings.replicas
    if least == most:
        deployment["num_replicas"] = most
    else:
        deployment["autoscaling_config"] = autoscaling_of(settings.replicas)
    http = {
        "host": settings.host,
        "port": settings.port,
        "request_timeout_s": REQUEST_S,
    }
    if settings.tls_cert is not None:
        http["ssl_certfile"] = str(settings.tls_cert.absolute())
        http["ssl_keyfile"] = str((settings.tls_key or settings.tls_cert).absolute())
    return {
        "proxy_location": "HeadOnly",
        "http_options": http,
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": "saccade.server.ray_serve.application:build",
                "args": {"cpus": 0},  # replicas share the machine's; none is counted
                "deployments": [deployment],
            }
        ],
    }


def autoscaling_of(replicas: ReplicaBounds) -> dict[str, Any]:
    """Return how Serve chooses a number of replicas."""
    return {
        "min_replicas": replicas.least,
        "max_replicas": replicas.most,
        "look_back_period_s": 20,
        "upscale_delay_s": 10,
        "downscale_delay_s": 300,
        "policy": {
            "policy_function": "saccade.server.ray_serve.autoscaling:LagAndOccupancy"
        },
    }


def deploy(
    dashboard: str, config: dict[str, Any], environment: Mapping[str, str]
) -> None:
    """Give Serve a config, from which it starts, or which takes another one's place.

    Args:
        dashboard: The address of Ray's dashboard.
        config: The Serve config.
        environment: Names the cluster's token.

    Raises:
        RayFailed: It is refused.
    """
    request = urllib.request.Request(
        f"{dashboard}/api/serve/applications/",
        json.dumps(config).encode(),
        {"Content-Type": "application/json", **authorization(environment)},
        method="PUT",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(request, timeout=ANSWER_S).close()
    except HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")
        raise RayFailed(f"the config is refused ({error.code}): {said}") from None
    except (URLError, TimeoutError) as error:
        reason = f"the dashboard at {dashboard} does not answer: {error}"
        raise RayFailed(reason) from None


def authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the header that shows the cluster's token, if it has one."""
    token = environment.get("RAY_AUTH_TOKEN")
    file = environment.get("RAY_AUTH_TOKEN_PATH")
    if token is None and file is not None:
        token = Path(file).read_text("utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def run(settings: Settings, started_s: float) -> int:
    """Wait until the replicas serve, then for a stop signal, and drain them.

    Args:
        settings: Of the server.
        started_s: When the start began.

    Raises:
        RayFailed: No replica can serve; says why.
    """
    stop = Stop()
    wait_until_serving(stop)
    if not stop.came:
        scheme = "http" if settings.tls_cert is None else "https"
        place = f"{scheme}://{settings.host}:{settings.port}"
        seconds = time.perf_counter() - started_s
        sys.stdout.write(
            f"Saccade places sessions on {place} (ready in {seconds:.1f} s)\n"
        )
        sys.stdout.flush()
    while not stop.came:
        time.sleep(POLL_S)
    JOURNAL.info("stops: a signal came", extra=about("stopping"))
    remove()
    JOURNAL.info("has stopped", extra=about("stopped"))
    return 0


class Stop:
    """Whether a stop signal has come; a second one ends at once."""

    def __init__(self) -> None:
        self.came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, _: object) -> None:
        if self.came:
            raise SystemExit(1)
        self.came = True


def wait_until_serving(stop: Stop) -> None:
    """Wait until all replicas serve, or a signal has come.

    Raises:
        RayFailed: Serve has given up.
    """
    from ray import serve

    with progress() as line:
        while not stop.came:
            found = serve.status().applications.get(APPLICATION)
            if found is not None and found.status == "RUNNING":
                return
            if found is not None and found.status == "DEPLOY_FAILED":
                replica = found.deployments.get("Replica")
                said = (replica and replica.message) or found.message
                raise RayFailed(f"no replica serves: {said}")
            line.show("starting the replicas")
            time.sleep(POLL_S)


def remove() -> None:
    """Drain and end every replica; Serve kills those that take too long."""
    from ray import serve

    serve.delete(APPLICATION, _blocking=False)  # which would wait for 60 s at most
    while APPLICATION in serve.status().applications:
        time.sleep(POLL_S)
    serve.shutdown()
