"""The server's settings: what there is to choose, and what fits together.

A setting's type, default, range and help text stand at its field of `Settings`. The
options of `saccade serve`, the variables `SACCADE_<NAME>` and the keys of a file of
settings follow from the fields.
"""

# ruff: noqa: RUF009 `setting` is `dataclasses.field`
from __future__ import annotations

import ipaddress
import math
import os
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal, Self, get_args, get_type_hints
from urllib.parse import urlsplit

from saccade.checkpoints import released
from saccade.server.configuration import Resolved, resolve
from saccade.server.devices import AUTO, Devices
from saccade.server.logs import LogChoices, LogFormat, LogLevel
from saccade.server.setting_values import (
    ReplicaBounds,
    Shape,
    check_value,
    setting,
)

WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})
"""Hosts that stand for every address of the machine."""

MatmulPrecision = Literal["float32", "tf32", "bfloat16"]


def cache_folder() -> Path:
    """Return the folder of what Saccade can compute again, for this user."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "saccade"


def state_folder() -> Path:
    """Return the folder of what must outlive a Saccade process, for this user."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "saccade"


@dataclass(frozen=True)
class Settings:
    """The settings of one server; `saccade serve --help` explains each.

    Raises:
        ValueError: A value is out of range, a certificate cannot be used, or an
            address that other machines reach would be served without keys.
    """

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port; 0 takes a free one", "in 0..65535")
    insecure: bool = setting(
        default=False,
        help="listen where others can reach the server, though there are no keys",
    )
    keys_file: Path | None = setting(
        None, "API keys' hashes, NAME:SHA256[:operator] a line (see saccade key)"
    )
    keys: tuple[str, ...] = setting((), "more API keys' hashes", option=False)
    origins: tuple[str, ...] = setting(
        (), "origins of the web pages that may use the server, as https://host:port,..."
    )
    no_watch: bool = setting(
        default=False,
        help="let no session be watched, not even by the holder of its key",
    )
    tls_cert: Path | None = setting(
        None, "certificate for https and wss, as PEM, with its chain"
    )
    tls_key: Path | None = setting(
        None, "the certificate's key (default: in the same file)"
    )
    tls_key_password: str = setting(
        "", "password of the certificate's key", option=False, secret=True
    )
    models: tuple[Path, ...] = setting(
        (), "a checkpoint's folder; may be given again (default: the released ones)"
    )
    device: Devices = setting(
        AUTO,
        "what runs the models: auto, cpu, cuda, or some of several GPUs as cuda:0,1; "
        "auto is every GPU that CUDA can use, else the CPU",
    )
    workers: int = setting(
        0,
        "processes that share the sockets and sessions, beside one for the engine; "
        "0: one process does everything",
        "in 0..64",
    )
    slots: int = setting(
        256, "sessions per model that are on each device at one time", "> 0"
    )
    sessions: int = setting(
        1024,
        "sessions per model at one time; those beyond the slots wait in host memory",
        "> 0",
    )
    buckets: tuple[Shape, ...] | None = setting(
        None,
        "shapes to compile, as ROWSxTICKS,...; work per call is their product "
        "(default: those that suit the device)",
    )
    window_events: int = setting(1 << 19, "events that a session may have under way")
    window_bytes: int = setting(
        1 << 22, "bytes of events that a session may have under way"
    )
    max_frame_bytes: int = setting(1 << 20, "longest websocket message")
    outbox_messages: int = setting(
        1024,
        "messages that wait for a client before only the newest result is kept",
        "> 0",
        option=False,
    )
    max_body_bytes: int = setting(
        1 << 25, "longest HTTP body, as sent and once unpacked", "> 0"
    )
    max_recordings: int = setting(256, "recordings in one HTTP request", "> 0")
    max_upload_bytes: int = setting(
        1 << 29, "longest HTTP body of recordings' files, which wait on disk", "> 0"
    )
    max_uploads_bytes: int = setting(
        1 << 32, "bytes of all such bodies that wait on disk at one time", "> 0"
    )
    max_request_events: int = setting(
        1 << 28, "events that the files of one HTTP request may hold", "> 0"
    )
    key_sessions: float = setting(
        math.inf, "sessions that one key may have at a time", "> 0"
    )
    key_requests: float = setting(
        16, "HTTP requests that one key may have classified at a time", "> 0"
    )
    key_events_per_s: float = setting(
        # A smaller rate leaves no room for a frame worth sending; bytes as well.
        math.inf, "events a second that may come in with one key", ">= 256"
    )  # fmt: skip
    key_bytes_per_s: float = setting(
        math.inf, "bytes a second that may come in with one key", ">= 4096"
    )
    drain_s: float = setting(
        5.0, "seconds that sessions may go on after a stop signal", ">= 0"
    )
    store: Literal["sqlite", "memory", "redis"] = setting(
        "sqlite", "where sessions without a client are kept"
    )
    store_path: Path = setting(
        lambda: state_folder() / "sessions.sqlite", "file of the sqlite store"
    )
    store_url: str = setting(
        "redis://127.0.0.1:6379/0",
        "address of the redis store: redis, rediss or valkey://HOST:PORT/DATABASE; "
        "redis+cluster://HOST:PORT,HOST:PORT",
        secret=True,
    )
    advertise: str = setting(
        "",
        "address by which clients reach this server, for the other servers of the same "
        "redis store: https://host:port (default: host and port, if others reach them)",
    )
    replica: str = setting("", "this server's name among them (default: a random one)")
    ray: bool = setting(
        default=False,
        help="have Ray Serve run replicas on this machine, which share a Redis; host "
        "and port are where sessions are placed",
    )
    replicas: ReplicaBounds = setting(
        lambda: ReplicaBounds(1, 1), "replicas of --ray, as 3, or as 1-4 by their load"
    )
    rebalance: int = setting(
        4, "sessions that move at a time to emptier servers; 0: none", ">= 0"
    )
    session_ttl_s: float = setting(
        300.0, "seconds that a session is kept whose client is gone", "> 0"
    )
    open_s: float = setting(
        20.0, "seconds that a client may take to open a session", "> 0"
    )
    idle_s: float = setting(
        600.0, "seconds that a client may be silent; 0: for ever", ">= 0"
    )
    snapshot_s: float = setting(
        10.0,
        "most seconds between two snapshots of a session that moves; 0: none, sessions "
        "end with their connection",
        ">= 0",
    )
    snapshot_events: int = setting(
        1 << 17,
        "most events between two snapshots of a session, which are scored again where "
        "the server is killed",
        "> 0",
    )
    lease_s: float = setting(
        5.0,
        "seconds that a session's client is answered after the store has confirmed "
        "that the session is this server's; 0: for ever",
        ">= 0",
    )
    reload_s: float = setting(
        2.0, "seconds between two looks at the checkpoints; 0: never", ">= 0"
    )
    execution: Literal["fastest", "xla"] = setting(
        "fastest", "what runs the models; fastest is native code on a CPU"
    )
    matmul_precision: tuple[str, ...] = setting(
        (),
        "the least that an accelerator may multiply in: float32 (the default), tf32 or "
        "bfloat16, for all models or as MODEL=PRECISION,...; a CPU takes float32",
    )
    compiled: Path = setting(
        cache_folder, "folder that keeps what is compiled for the next start"
    )
    log_format: LogFormat = setting(
        "human", "how the log is written: lines for people, or JSON objects, one a line"
    )
    log_level: LogLevel = setting(
        "info", "what the log says at least; SIGUSR1 changes to debug, and back"
    )
    otel: bool = setting(
        default=False,
        help="export traces and metrics over OTLP/HTTP, as the variables OTEL_* say",
    )

    def __post_init__(self) -> None:
        types = get_type_hints(Settings)
        for item in fields(self):
            check_value(item, types[item.name], getattr(self, item.name))
        if self.workers > self.slots:
            raise ValueError(f"{self.workers} workers cannot share {self.slots} slots")
        if self.buckets == ():
            raise ValueError("no buckets: the engine has nothing to compile")
        _check_precisions(self.precisions)
        _check_tls(self)
        _check_address("advertise", self.advertise)
        guarded = self.keys_file is not None or bool(self.keys)
        if not (self.insecure or guarded or is_loopback(self.host)):
            raise ValueError(
                f"{self.host} can be reached by others and there are no keys; make one "
                "(saccade key NAME >> keys) and give --keys-file or SACCADE_KEYS_FILE, "
                "listen on 127.0.0.1, or let everybody in, by --insecure or "
                "SACCADE_INSECURE=true"
            )

    @property
    def precisions(self) -> dict[str, str]:
        """`matmul_precision` by a model's name; by "" for the models without one."""
        parts = (word.rpartition("=") for word in self.matmul_precision)
        return {name: precision for name, _, precision in parts}

    @property
    def log_choices(self) -> LogChoices:
        """What the settings say of the log."""
        return LogChoices(self.log_format, self.log_level, self.replica)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the checkpoints: the released ones where none is named."""
        return self.models or tuple(released())

    @classmethod
    def read(
        cls, environment: Mapping[str, str], options: Mapping[str, str | None]
    ) -> Self:
        """Read the command line's options, the environment's variables and the file.

        Raises:
            ValueError: A value cannot be read or is out of range; names it.
        """
        return cls(**resolve_settings(environment, options).values)


def resolve_settings(
    environment: Mapping[str, str], options: Mapping[str, str | None]
) -> Resolved:
    """Find the values of all settings; whether they fit together, `Settings` checks.

    Args:
        environment: The process's variables.
        options: The options' texts by the names of the settings, and `config`.

    Raises:
        ConfigurationError: The file or a value cannot be read, or is out of range.
    """
    return resolve(fields(Settings), get_type_hints(Settings), environment, options)


def in_fleet(settings: Settings) -> bool:
    """Return whether a server shares its store with others, with whom it counts."""
    return settings.store == "redis" and settings.snapshot_s > 0


def advertised(settings: Settings, port: int) -> Settings:
    """Return the settings of a server that listens, with its address and its name.

    Where it listens on every address of the machine, only `advertise` can say which one
    others reach; without it no other server sends clients there.

    Args:
        settings: The settings as they were read.
        port: The port that it listens on.
    """
    address = settings.advertise
    if not address and settings.host not in WILDCARDS:
        scheme = "http" if settings.tls_cert is None else "https"
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{scheme}://{host}:{port}"
    name = settings.replica or secrets.token_hex(4)
    return replace(settings, advertise=address.rstrip("/"), replica=name)


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_address(name: str, address: str) -> None:
    """Raise ValueError unless an address is empty or that of a server."""
    parts = urlsplit(address)
    if address and not (parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError(f"{name} {address!r} is no address such as https://host:8000")


def _check_precisions(precisions: Mapping[str, str]) -> None:
    """Raise ValueError unless every model's precision is one that there is."""
    known = get_args(MatmulPrecision)
    for name, precision in precisions.items():
        if precision not in known:
            of = f" of {name!r}" if name else ""
            choices = ", ".join(known)
            raise ValueError(
                f"matmul_precision{of} {precision!r} is not one of {choices}"
            )


def _check_tls(settings: Settings) -> None:
    """Raise ValueError unless the certificate, if one is given, can be used."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None:
        if key is not None:
            raise ValueError("tls_key is given without tls_cert")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, settings.tls_key_password)
    except OSError as error:  # includes ssl.SSLError
        files = f"{cert} and {key}" if key else f"{cert}"
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"cannot use the certificate in {files}: {reason}") from None
