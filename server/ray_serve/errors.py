"""Errors of the replicas that Ray Serve runs, and of Ray itself.

RayServeError
├── RayMissing          the package is not installed
├── RayFailed           Ray or its Serve does not start, or refuses a config
├── NoSharedStore       the settings name a store that replicas cannot share
├── ServerFailed        a replica's server has ended, or is not ready in time
├── ServerSilent        it does not answer, or says that it is not well
└── VersionRefused      a checkpoint cannot take the place of the one that is served
"""

from __future__ import annotations

from pathlib import Path


class RayServeError(Exception):
    """Something about Ray or the replicas does not work; the text says what to do."""


class RayMissing(RayServeError):
    """Ray is not installed."""

    def __str__(self) -> str:
        return "--ray needs Ray Serve; pip install 'saccade[ray]' brings it"


class RayFailed(RayServeError):
    """Ray or its Serve does not work."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"Ray Serve: {self.reason}"


class NoSharedStore(RayServeError):
    """Replicas find each other and hand over sessions in Redis, and there is none."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"replicas share their sessions in Redis, and {self.reason}; name one that "
            "runs with --store redis --store-url redis://HOST:PORT/0 or the variables "
            "SACCADE_STORE and SACCADE_STORE_URL"
        )


class ServerFailed(RayServeError):
    """A replica's server process has ended, or was not ready in time."""

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(reason, log)
        self.reason = reason
        self.log = log

    def __str__(self) -> str:
        said = f"; its last lines:\n{self.log}" if self.log else ""
        return f"the replica's server {self.reason}{said}"


class ServerSilent(RayServeError):
    """A replica's server does not answer, or is not well."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"the replica's server at {self.url} is not well: {self.reason}"


class VersionRefused(RayServeError):
    """A checkpoint cannot take the place of the one that is served."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder = folder
        self.reason = reason

    def __str__(self) -> str:
        return f"the checkpoint in {self.folder} is not served: {self.reason}"
