"""One replica: an actor of Ray Serve's that runs one server, and answers for it.

Serve creates it, gives it the models (`reconfigure`), asks whether it is well, and ends
it. Of HTTP it passes on what is small: where to open a session, and what there is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import tempfile
import time
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from saccade.checkpoints import released
from saccade.server.fleet.redis import RedisDirectory
from saccade.server.fleet.report import replicas_of
from saccade.server.logs import about
from saccade.server.ray_serve.autoscaling import LAG, OCCUPANCY
from saccade.server.ray_serve.errors import (
    ServerFailed,
    ServerSilent,
    VersionRefused,
)
from saccade.server.ray_serve.plan import (
    Plan,
    check_store,
    of_replica,
    read_ports,
    read_settings,
)
from saccade.server.ray_serve.server_process import ServerProcess, among_others
from saccade.server.ray_serve.versions import Version, VersionLinks, read_versions
from saccade.server.settings import Settings
from saccade.server.transport.auth import Keys, digest_of, new_key
from saccade.server.transport.problems import Problem

LOG: Final = logging.getLogger("ray.serve")

MODELS: Final = "models"
"""The field of `user_config` that lists the checkpoints' folders."""
VERSION_S: Final = 300.0
"""How long a server may take to compile and verify a new version of a model."""
POLL_S: Final = 0.5
MOST_SILENT: Final = 3
"""Failed checks after which a server is killed: so many does Serve wait for, too."""
LARGEST_BODY: Final = 1 << 16
PASSED_ON: Final = frozenset(
    {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/v1/models"),
        ("GET", "/v1/sessions"),
        ("POST", "/v1/sessions"),
    }
)
"""What any replica answers for all."""
REFUSED: Final = re.compile(
    r'^saccade_reloads_total\{model="([^"]*)",outcome="refused"\} (\S+)$', re.MULTILINE
)
HEADERS: Final = ("authorization", "content-type", "origin")


class Replica:
    """The deployment of a Serve application.

    Args:
        plan: The application's arguments, as `Plan` has them.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = Plan(**plan)
        self._server: ServerProcess | None = None
        self._links: VersionLinks | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="saccade-replica-")
        self._key = ""
        self._silent = 0
        self._directory: RedisDirectory | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the models that a config names: at first, or from now on.

        Serve waits for each replica before it goes on with the next one.

        Args:
            user_config: `models` lists the checkpoints' folders; the released ones
                where it is empty.

        Raises:
            RayServeError: The models are not served; a server that runs goes on with
                those that it had.
            ValueError: A setting is wrong.
        """
        folders = [Path(one) for one in user_config.get(MODELS) or released()]
        versions = read_versions(folders)
        if self._server is None or self._links is None:
            await asyncio.to_thread(self._start, versions)
            return
        refused = await asyncio.to_thread(self._refused)
        for version in self._links.replace(versions):
            before = refused.get(version.name, 0.0)
            await asyncio.to_thread(self._wait_for, version, before)

    async def check_health(self) -> None:
        """Raise where the server is not well, and end one that does not answer.

        Raises:
            RayServeError: It is not well.
        """
        if self._server is None:
            raise ServerFailed("was not started: user_config is empty", "")
        try:
            await asyncio.to_thread(self._server.check)
        except ServerSilent:
            self._silent += 1
            if self._silent >= MOST_SILENT:
                self._server.kill()  # which frees its device for the next
            raise
        self._silent = 0

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what this replica reports to the fleet, as the policy reads it."""
        if self._server is None:
            return {}
        settings = self._server.settings
        if self._directory is None:
            self._directory = RedisDirectory(settings.store_url)
        reports = await self._directory.reports()
        own = [one for one in reports if one.replica == settings.replica]
        loads = [load for one in replicas_of(own) for load in one.models.values()]
        if not loads:
            return {}
        return {
            OCCUPANCY: max(load.sessions / load.capacity for load in loads),
            LAG: max(load.lag_s if load.sessions else 0.0 for load in loads),
        }

    async def __call__(self, request: Request) -> Response:
        """Pass a request on to the server, if it is one for any replica."""
        path = request.url.path
        if (request.method, path) not in PASSED_ON or self._server is None:
            detail = (
                f"this address says where sessions are served, not {path}: POST "
                "/v1/sessions names a server, which answers all else"
            )
            return Problem(404, "no_such_route", detail).response(path)
        body = await request.body()
        if len(body) > LARGEST_BODY:
            detail = f"the body has more than {LARGEST_BODY} bytes"
            return Problem(413, "too_large", detail).response(path)
        headers = {n: request.headers[n] for n in HEADERS if n in request.headers}
        asked = partial(self._server.ask, request.method, path, headers, body)
        try:
            answer = await asyncio.to_thread(asked)
        except ServerSilent as error:
            return Problem(503, "not_ready", str(error)).response(path)
        kept = ("retry-after", "www-authenticate")
        found = {name: answer.headers[name] for name in kept if name in answer.headers}
        media_type = answer.headers.get("content-type")
        return Response(answer.body, answer.status, found, media_type)

    def __del__(self) -> None:
        """Drain the server and end it; Serve calls this at a graceful end."""
        server, self._server = getattr(self, "_server", None), None
        if server is not None:
            server.stop()
            self._folder.cleanup()

    def _start(self, versions: dict[str, Version]) -> None:
        import ray
        from ray import serve

        settings = read_settings(self._plan, os.environ)
        check_store(settings)
        name = serve.get_replica_context().replica_id.unique_id
        links = VersionLinks(Path(self._folder.name), versions)
        settings = self._with_own_key(of_replica(settings, name, links.folders))
        node = among_others(ray.util.get_node_ip_address())
        server = ServerProcess(settings, read_ports(self._plan.ports), node)
        try:
            server.wait_until_ready()
        except BaseException:
            server.kill()
            raise
        server.when_ended(end_with_server)
        self._server, self._links = server, links
        said = "replica %s serves %s on %s"
        LOG.info(said, name, ", ".join(versions), server.url, extra=about("ready"))

    def _with_own_key(self, settings: Settings) -> Settings:
        """Return settings by which the replica may ask its server what it serves."""
        if not Keys.read(settings.keys_file, settings.keys):
            return settings
        self._key = new_key()
        own = f"replica-{settings.replica}:{digest_of(self._key)}"
        return replace(settings, keys=(*settings.keys, own))

    def _wait_for(self, version: Version, refused: float) -> None:
        """Wait until new sessions get a version.

        Args:
            version: Its link has been set.
            refused: How many versions of the model the server had refused before.

        Raises:
            VersionRefused: The server refuses it, or does not serve it in time.
        """
        assert self._server is not None
        deadline_s, reason = time.monotonic() + VERSION_S, f"not within {VERSION_S:g} s"
        while time.monotonic() < deadline_s:
            if self._served().get(version.name) == version.content_hash:
                said = "new sessions get %s of %s"
                LOG.info(said, version.name, version.folder, extra=about("reloaded"))
                return
            if self._refused().get(version.name, 0.0) > refused:
                reason = "the server refuses it"
                break
            time.sleep(POLL_S)
        log = self._server.log
        raise VersionRefused(version.folder, f"{reason}; its last lines:\n{log}")

    def _served(self) -> dict[str, str]:
        """Return the hashes of the served versions, by the models' names."""
        models = json.loads(self._ask_own("/v1/models"))["models"]
        return {one["model"]: one["model_hash"] for one in models}

    def _refused(self) -> dict[str, float]:
        """Return how many versions the server has refused, by the models' names."""
        found = REFUSED.findall(self._ask_own("/metrics").decode())
        return {name: float(count) for name, count in found}

    def _ask_own(self, path: str) -> bytes:
        """Return what the server answers to its own replica."""
        assert self._server is not None
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        answer = self._server.ask("GET", path, headers)
        if answer.status != HTTPStatus.OK:
            raise ServerSilent(self._server.url, f"GET {path}: {answer.status}")
        return answer.body


def end_with_server(status: int) -> None:
    """End the replica at once: Serve starts another in its place."""
    said = "the replica's server has ended with status %d; it ends too"
    LOG.error(said, status, extra=about("process_ended"))
    os._exit(1)
