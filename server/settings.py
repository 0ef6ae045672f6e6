"""The server's certificate, tried before anything is started."""

from __future__ import annotations

import ipaddress
import math
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, get_type_hints


def check_certificate(cert: Path, key: Path | None, password: str) -> None:
    """Make sure that a certificate can be shown.

    Args:
        cert: The certificate, and those that lead from it to an authority.
        key: Its key; by default in the same file.
        password: What opens the key, if it is locked.

    Raises:
        ValueError: The files cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password)
    except OSError as error:  # an SSLError is one, too
        files = f"{cert} and {key}" if key else f"{cert}"
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"cannot use the certificate in {files}: {reason}") from None


# >>> merged from server.settings
# >>> """Everything that an operator may choose, read once into a frozen value."""

PREFIX: Final = "SACCADE_"

EXECUTIONS: Final = ("fastest", "xla")
STORES: Final = ("sqlite", "memory", "redis")
POSITIVE: Final = (
    "slots",
    "sessions",
    "outbox_messages",
    "max_body_bytes",
    "max_recordings",
    "snapshot_events",
    "session_ttl_s",
    "open_s",
    "key_sessions",
    "key_requests",
)
LEAST: Final = {
    "key_events_per_s": 256,
    "key_bytes_per_s": 4096,
    "idle_s": 0,
    "snapshot_s": 0,
}
"""A smaller rate would leave no room for a frame worth sending; no time is below 0."""

Shape: TypeAlias = tuple[int, int]
"""Rows and ticks of one compiled call."""


def cache_folder() -> Path:
    """Return where this user's programs keep what they can make again."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "saccade"


def state_folder() -> Path:
    """Return where this user's programs keep what must outlive them."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "saccade"


@dataclass(frozen=True)
class Settings:
    """The server's settings; each may be set as `SACCADE_<NAME>`.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        insecure: Whether an address that others can reach may be listened on.
        keys_file: API keys' hashes, `NAME:SHA256` a line; see `saccade key`.
        keys: More of them, `NAME:SHA256,…`.
        origins: Whose web pages may use the server, `https://host:port,…`.
        tls_cert: The server's certificate, with those that lead to an authority.
        tls_key: Its key; by default in the same file.
        tls_key_password: What opens the key, if it is locked.
        models: Checkpoint folders; empty serves the released ones.
        slots: Sessions per model that are on the device at one time.
        sessions: Sessions per model at one time; those that have nothing to score
            are kept in the host's memory, and where all have they take turns.
        buckets: Shapes to compile, as `ROWSxTICKS,…`. Work per call is their
            product; a large one adds latency on a small machine.
        window_events: Events that a session may have under way.
        window_bytes: Bytes of events that a session may have under way.
        max_frame_bytes: Longest websocket message.
        outbox_messages: Messages that wait for a client before it hears only the
            newest results.
        max_body_bytes: Longest HTTP body.
        max_recordings: Recordings in one HTTP request.
        key_sessions: Sessions with a client that one key may have at one time.
        key_requests: HTTP requests that one key may have classified at one time.
        key_events_per_s: Events that may come in with one key, on all its
            connections and requests together.
        key_bytes_per_s: Bytes of messages and bodies, likewise.
        drain_s: How long sessions may go on after the server was told to stop; in the
            last quarter nothing is read, and what waits is scored.
        store: Where sessions are kept that nobody is connected to: `sqlite`, which
            outlives the server, `redis`, which several servers share, or `memory`.
        store_path: File of the `sqlite` store.
        store_url: Address of the `redis` store; it may hold a password.
        session_ttl_s: For how long.
        open_s: How long a connected client may take to open a session.
        idle_s: How long a connected client may say nothing before its session is put
            there too; 0 for ever.
        snapshot_s: How often a session that moves is saved.
        snapshot_events: And after how many events.
        reload_s: Time between two looks for new versions of the served checkpoints;
            0 never looks.
        execution: What runs the models: `fastest`, which on a CPU is machine code of
            our own, or `xla` everywhere.
        compiled: Folder that keeps what is compiled, for the next start.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    insecure: bool = False
    keys_file: Path | None = None
    keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_key_password: str = field(default="", repr=False)
    models: tuple[Path, ...] = ()
    slots: int = 256
    sessions: int = 1024
    buckets: tuple[Shape, ...] = ((1, 1), (1, 16), (8, 1), (8, 4), (64, 1))
    window_events: int = 1 << 19
    window_bytes: int = 1 << 22
    max_frame_bytes: int = 1 << 20
    outbox_messages: int = 1024
    max_body_bytes: int = 1 << 25
    max_recordings: int = 256
    key_sessions: float = math.inf
    key_requests: float = 16
    key_events_per_s: float = math.inf
    key_bytes_per_s: float = math.inf
    drain_s: float = 5.0
    store: str = "sqlite"
    store_path: Path = field(default_factory=lambda: state_folder() / "sessions.sqlite")
    store_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    session_ttl_s: float = 300.0
    open_s: float = 20.0
    idle_s: float = 600.0
    snapshot_s: float = 1.0
    snapshot_events: int = 1 << 20
    reload_s: float = 2.0
    execution: str = "fastest"
    compiled: Path = field(default_factory=cache_folder)

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.store not in STORES:
            raise ValueError(f"store {self.store!r} is not one of {', '.join(STORES)}")
        if self.execution not in EXECUTIONS:
            raise ValueError(
                f"execution {self.execution!r} is not one of {', '.join(EXECUTIONS)}"
            )
        if not self.buckets:
            raise ValueError("no buckets: the engine has nothing to compile")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not in 0..65535")
        _check_tls(self)
        guarded = self.keys_file is not None or bool(self.keys)
        if not (self.insecure or guarded or is_loopback(self.host)):
            raise ValueError(
                f"{self.host} can be reached by others and there are no keys; give "
                "--keys-file, listen on 127.0.0.1, or say --insecure"
            )

    @classmethod
    def read(
        cls, environment: Mapping[str, str], overrides: Mapping[str, str | None]
    ) -> Self:
        """Read the environment, then what the command line says.

        Raises:
            ValueError: A value cannot be read or is out of range; names it.
        """
        values: dict[str, Any] = {}
        for name, parse in _parsers().items():
            text = overrides.get(name)
            if text is None:
                text = environment.get(PREFIX + name.upper())
            if text is not None:
                values[name] = _parse(name, text, parse)
        return replace(cls(), **values)


def _check_numbers(settings: Settings) -> None:
    for name in POSITIVE:
        number = getattr(settings, name)
        if not number > 0:
            raise ValueError(f"{name} is {number}; it must be > 0")
    for name, least in LEAST.items():
        number = getattr(settings, name)
        if not number >= least:
            raise ValueError(f"{name} is {number}; it must be >= {least}")


def _check_tls(settings: Settings) -> None:
    if settings.tls_cert is not None:
        password = settings.tls_key_password
        check_certificate(settings.tls_cert, settings.tls_key, password)
    elif settings.tls_key is not None:
        raise ValueError("tls_key is given without tls_cert")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_buckets(text: str) -> tuple[Shape, ...]:
    """Read `8x4,64x1` as 8 rows by 4 ticks and 64 rows by one."""
    pairs = [part.strip().split("x") for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 or int(pair[0]) < 1 or int(pair[1]) < 1 for pair in pairs):
        raise ValueError("a bucket is ROWSxTICKS, both at least 1")
    return tuple((int(rows), int(ticks)) for rows, ticks in pairs)


def _parse_paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(",") if part)


def _parse_words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_flag(text: str) -> bool:
    flags = {
        "1": True,
        "true": True,
        "yes": True,
        "0": False,
        "false": False,
        "no": False,
    }
    if text.lower() not in flags:
        raise ValueError("a flag is true or false")
    return flags[text.lower()]


def _parsers() -> dict[str, Any]:
    special = {
        "models": _parse_paths,
        "buckets": parse_buckets,
        "insecure": _parse_flag,
        "keys_file": Path,
        "tls_cert": Path,
        "tls_key": Path,
        "keys": _parse_words,
        "origins": _parse_words,
    }
    types = get_type_hints(Settings)
    return {
        item.name: special.get(item.name, types[item.name]) for item in fields(Settings)
    }


def _parse(name: str, text: str, parse: Any) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{PREFIX}{name.upper()} or --{name}: {error}") from None
