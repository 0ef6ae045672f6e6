"""The application that a Serve config names, by its `import_path`.

    applications:
      - name: saccade
        import_path: saccade.server.ray_serve.application:build
        args: {settings: {…}, ports: 8100-8199}
        deployments:
          - name: Replica
            num_replicas: 3
            user_config: {models: [/models/motions]}

Replicas are added and removed by another config, never by `serve.run`, which would
replace every one of them.
"""

from __future__ import annotations

import os
from typing import Any, Final

import ray
from ray import serve
from ray.serve import Application, Deployment

from saccade.server.ray_serve.errors import RayFailed
from saccade.server.ray_serve.plan import Plan, read_settings
from saccade.server.ray_serve.replica import Replica
from saccade.server.ray_serve.server_process import ANSWER_S, STOP_S
from saccade.server.settings import Settings

DEPLOYMENT: Final = "Replica"
HEALTH_PERIOD_S: Final = 3.0
MOST_REQUESTS: Final = 64
"""Requests for a placement that a replica answers at one time; others wait."""
MOST_WAITING: Final = 1024
WAIT_LOOP_S: Final = 0.5


def build(args: dict[str, Any]) -> Application:
    """Return the application of a Serve config.

    Args:
        args: The config's; `Plan` has the fields.

    Raises:
        ValueError: A setting is wrong; says which.
        NoSharedStore: The store is not Redis.
    """
    plan = Plan(**args)
    settings = read_settings(plan, os.environ)
    options = deployment_options(plan, settings, ray.cluster_resources())
    deployment: Deployment = serve.deployment(name=DEPLOYMENT, **options)(Replica)
    return deployment.bind(plan.model_dump())


def deployment_options(
    plan: Plan, settings: Settings, resources: dict[str, float]
) -> dict[str, Any]:
    """Return the options of the deployment, which a config may override one by one.

    Args:
        plan: The config's `args`.
        settings: The replicas'.
        resources: The cluster's, as Ray counts them.

    Raises:
        RayFailed: The cluster has no GPU, and replicas are to have some.
    """
    present = resources.get("GPU", 0.0)
    gpus = plan.gpus if plan.gpus is not None else min(1.0, present)
    if gpus > present:
        reason = f"a replica takes {gpus:g} GPUs and the cluster has {present:g}"
        raise RayFailed(f"{reason}; start Ray with --num-gpus, or set gpus to 0")
    return {
        "num_replicas": 1,
        "user_config": {"models": []},
        "ray_actor_options": {"num_cpus": plan.cpus, "num_gpus": gpus},
        "max_ongoing_requests": MOST_REQUESTS,
        "max_queued_requests": MOST_WAITING,
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": 2 * ANSWER_S,
        "graceful_shutdown_wait_loop_s": WAIT_LOOP_S,
        "graceful_shutdown_timeout_s": settings.drain_s + 2 * STOP_S,
    }
