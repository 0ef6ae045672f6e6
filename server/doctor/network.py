"""Checks of the port and of the clock."""

from __future__ import annotations

import ctypes
import os
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from saccade.server.doctor.findings import Finding, Subject
from saccade.server.listening import CannotListen, listen
from saccade.server.settings import in_fleet

ANSWER_S: Final = 10.0
WARNING_SKEW_S: Final = 1.0
FAULT_SKEW_S: Final = 10.0
DATE_S: Final = 1.0
"""HTTP's dates are whole seconds, and a server may keep one for as long."""

OLDEST_S: Final = 1_760_000_000
"""October 2025, before there was a Saccade."""

LISTENING: Final = "0A"
TIME_ERROR: Final = 5
"""What Linux's adjtimex returns where nothing sets the clock."""


class Holder:
    """A process that listens on a port, as far as this user may see it.

    Attributes:
        pid: Its number.
        command: Its command line.
    """

    def __init__(self, pid: int, command: str) -> None:
        self.pid = pid
        self.command = command

    @property
    def is_saccade(self) -> bool:
        """Whether it is a server of Saccade."""
        words = [word.rpartition("/")[2] for word in self.command.split()]
        return ("saccade", "serve") in pairwise(words)

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command[:60]})"


def check_port(subject: Subject) -> Iterator[Finding]:
    """Check that the server's port can be listened on."""
    host, port = subject.settings.host, subject.settings.port
    try:
        for opened in listen(host, port):
            opened.close()
    except CannotListen as error:
        holders = [*holders_of(port)]
        reason, _, remedy = error.reason.partition("; ")
        if servers := [holder for holder in holders if holder.is_saccade]:
            text = f"a server of Saccade listens on port {port} of {host}: {servers[0]}"
            yield Finding("port", "warning", text, "two need two ports: --port")
            return
        by = f": {holders[0]}" if holders else ""
        text = f"cannot listen on port {port} of {host}: {reason}{by}"
        yield Finding("port", "fault", text, remedy or "check --host and --port")
        return
    what = f"port {port} is free" if port else "any free port"
    yield Finding("port", "ok", f"{what} on {host}")


def holders_of(port: int) -> Iterator[Holder]:
    """Yield the processes that listen on a port, of those that this user may see."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if sockets & set(_open_files(folder)):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                yield Holder(int(folder.name), command.decode(errors="replace"))
        except OSError:  # another user's, or ended meanwhile
            continue


def _open_files(folder: Path) -> Iterator[str]:
    """Yield what a process has open, given its folder of /proc."""
    for file in (folder / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(file)


def _listening(port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port, as Linux lists them."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, lines):
            if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]


def check_clock(
    subject: Subject, clock: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Check the clock against itself, and against another server's if one is given."""
    now_s = clock()
    if now_s < OLDEST_S:
        stamp = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        text = f"the clock says {stamp}: certificates and sessions would be refused"
        yield Finding("clock", "fault", text, _SET_CLOCK)
        return
    if in_fleet(subject.settings) and not synchronised():
        text = "nothing sets the clock of this machine, and servers that share sessions"
        yield Finding("clock", "warning", f"{text} need the same time", _SET_CLOCK)
    if not subject.against:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
        yield Finding("clock", "ok", f"it is {stamp}")
        return
    try:
        skew = http_skew(subject.against, subject.environment, clock)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "reason", error)
        text = f"{subject.against} does not say its time: {reason}"
        yield Finding("clock", "warning", text, "check the address and SACCADE_CA")
        return
    yield judge_skew(skew, subject.against)


class Skew(NamedTuple):
    """How a clock differs from another.

    Attributes:
        ahead_s: By how much it is ahead, s.
        within_s: By how much that may be wrong, s.
    """

    ahead_s: float
    within_s: float


def judge_skew(skew: Skew, other: str) -> Finding:
    """Return the finding for this machine's clock beside another.

    Args:
        skew: How they differ.
        other: Whose clock the other is.
    """
    ahead_s = skew.ahead_s
    apart_s = max(0.0, abs(ahead_s) - skew.within_s)
    side = "ahead of" if ahead_s > 0 else "behind"
    text = f"the clock is {abs(ahead_s):.1f} s {side} that of {other}"
    if apart_s >= FAULT_SKEW_S:
        text += ": sessions would expire early, or their tickets"
        return Finding("clock", "fault", text, _SET_CLOCK)
    if apart_s >= WARNING_SKEW_S:
        return Finding("clock", "warning", text, _SET_CLOCK)
    return Finding("clock", "ok", f"the clock agrees with that of {other}")


_SET_CLOCK: Final = "let chrony or systemd-timesyncd set the clock of each machine"


def measure_skew(
    ask: Callable[[], float], clock: Callable[[], float], resolution_s: float = 0.0
) -> Skew:
    """Compare a clock with another one, which takes time to answer.

    Args:
        ask: Returns the other's time, s since 1970.
        clock: The clock, s since 1970.
        resolution_s: What the other's answer cannot tell apart, s.
    """
    before_s = clock()
    said_s = ask()
    after_s = clock()
    within_s = (after_s - before_s) / 2 + resolution_s
    return Skew((before_s + after_s) / 2 - said_s, within_s)


def http_skew(
    url: str, environment: Mapping[str, str], clock: Callable[[], float] = time.time
) -> Skew:
    """Compare a clock with the one of an HTTP server.

    Args:
        url: The server's address.
        environment: Variables; `SACCADE_CA` names an authority's certificate.
        clock: The clock, s since 1970.

    Raises:
        OSError: The server does not answer.
        ValueError: It does not say its time, or that is no address of a server.
    """
    trust = ssl.create_default_context(cafile=environment.get("SACCADE_CA"))
    address = f"{url.rstrip('/')}/healthz"

    def ask() -> float:
        with urllib.request.urlopen(address, timeout=ANSWER_S, context=trust) as answer:
            date = parsedate_to_datetime(answer.headers["Date"])
        return date.timestamp() + DATE_S / 2

    return measure_skew(ask, clock, DATE_S)


def synchronised() -> bool:
    """Return whether something sets this machine's clock, or Linux does not say."""
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError, TypeError):
        return True
    asked = ctypes.create_string_buffer(1024)  # all zeros: nothing is changed
    return bool(adjtimex(asked) != TIME_ERROR)
