"""How a process of the server logs: set at its start, its level also later."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from functools import partial
from types import TracebackType
from typing import Final, Literal, NamedTuple

from saccade.server.logs.bound import Bound, is_own_fault
from saccade.server.logs.formats import HumanFormat, JsonFormat
from saccade.server.logs.journal import JOURNAL, about

LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

SACCADE: Final = logging.getLogger("saccade")


class LogChoices(NamedTuple):
    """What the settings say of the log.

    Attributes:
        format: How a line is written.
        level: What is written of the server's own lines; of libraries, warnings.
        replica: The server's name, in JSON.
    """

    format: LogFormat = "human"
    level: LogLevel = "info"
    replica: str = ""


DEFAULT: Final = LogChoices()


class ErrorOutput(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes the process's log to standard error; there is one in a process.

    Args:
        choices: What the settings say.
        process: Name of this process, where there are several.
    """

    def __init__(self, choices: LogChoices, process: str) -> None:
        super().__init__()
        self.choices = choices
        self.addFilter(is_own_fault)
        self._bound = Bound()
        self.addFilter(self._bound)
        json = choices.format == "json"
        self.setFormatter(
            JsonFormat(process, choices.replica) if json else HumanFormat(process)
        )

    def write_left_out(self) -> None:
        """Write how many lines of each kind were left out in a period that is over."""
        for kind, records in self._bound.take_overdue():
            text, facts = "%d more lines of %s were not logged", (records, kind.text)
            record = logging.LogRecord(
                kind.logger, kind.level, "", 0, text, facts, exc_info=None
            )
            record.__dict__ |= about("left_out", records=records, kind=kind.text)
            self.acquire()  # as `handle` does, whose filters this line does not pass
            try:
                self.emit(record)
            finally:
                self.release()


async def write_left_out() -> None:
    """Write what the process's log has left out, without waiting for its next line."""
    _output().write_left_out()


def configure_logs(choices: LogChoices = DEFAULT, process: str = "") -> None:
    """Log to standard error from now on; a later call replaces an earlier one.

    Args:
        choices: What the settings say.
        process: Name of this process, where there are several.
    """
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler, ErrorOutput):
            root.removeHandler(handler)
    root.addHandler(ErrorOutput(choices, process))
    set_level(choices.level)
    if choices.format == "json":  # nothing else may write lines between the objects
        logging.captureWarnings(capture=True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_thread_s_end


def set_level(level: LogLevel) -> None:
    """Write the server's own lines of this level and above; of libraries, warnings.

    uvicorn never logs more than warnings: its debugging would show what clients send.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    SACCADE.setLevel(number)
    logging.getLogger().setLevel(max(number, logging.WARNING))


def toggle_level() -> LogLevel:
    """Change to `debug`, or back to the level of the settings; return the new level."""
    chosen = _output().choices.level
    usual: LogLevel = "info" if chosen == "debug" else chosen
    debugging = SACCADE.level == logging.DEBUG
    level: LogLevel = usual if debugging else "debug"
    set_level(level)
    JOURNAL.log(
        max(SACCADE.level, logging.INFO),
        "the log's level is %s now",
        level,
        extra=about("log_level"),
    )
    return level


def ignore_signals() -> None:
    """Ignore the signal that changes the level, which would end the process."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def tell(event: str, text: str, level: int = logging.INFO) -> None:
    """Write what the command says to whoever started it: plain, or as a JSON line.

    Args:
        event: One of `EVENTS`.
        text: A sentence.
        level: Its level in the log.
    """
    if _output().choices.format == "json":
        JOURNAL.log(level, "%s", text, extra=about(event) | {"kind": text})
    else:
        sys.stderr.write(f"saccade serve: {text}\n")


def logs_json() -> bool:
    """Return whether each line on standard error must be a JSON object."""
    return _output().choices.format == "json"


def _output() -> ErrorOutput:
    """Return the process's handler; its default where `configure_logs` was not run."""
    found = (each for each in logging.getLogger().handlers)
    ours = next((each for each in found if isinstance(each, ErrorOutput)), None)
    return ours or ErrorOutput(DEFAULT, "")


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        said = partial(JOURNAL.critical, "an exception ends the process: %s", error)
        said(exc_info=(kind, error, trace), extra=about("fault"))


def _log_thread_s_end(ended: threading.ExceptHookArgs) -> None:
    name = "?" if ended.thread is None else ended.thread.name
    error = ended.exc_value
    if error is not None and ended.exc_type is not SystemExit:
        said = partial(JOURNAL.critical, "an exception ends the thread %s", name)
        said(
            exc_info=(ended.exc_type, error, ended.exc_traceback), extra=about("fault")
        )
