"""Lines of the log: one shape, bounded numbers, and nothing that a client can forge."""

from __future__ import annotations

import ast
import json
import logging
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from saccade.server.logs import (
    EVENTS,
    ClientFacts,
    LogChoices,
    about,
    configure_logs,
    log_refusal,
    set_level,
    toggle_level,
    write_left_out,
)
from saccade.server.logs.bound import MOST_DEBUGGING, MOST_OF_A_KIND, PERIOD_S, Bound
from saccade.server.logs.formats import HumanFormat, JsonFormat

ROOT = Path(__file__).parents[2]
HOSTILE = "a\n2026-01-01 INFO forged\r\x1b[2J\u2028\u202e\ud800\x00\x85\x9b é"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


class Lines(logging.Handler):
    """Keeps the lines that a formatter writes."""

    def __init__(self, form: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(form)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Log(logging.Logger):
    """A logger of the test's own, its lines in both formats, and its clock."""

    def __init__(self) -> None:
        super().__init__("saccade.test")
        self.human = Lines(HumanFormat("worker 3"))
        self.json = Lines(JsonFormat("worker 3", "replica-1"))
        self.now_s = 0.0
        self.bound = Bound(lambda: self.now_s)
        self.addFilter(self.bound)
        self.addHandler(self.human)
        self.addHandler(self.json)

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.json.lines]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def process_log() -> Iterator[None]:
    """Restore what a process's configuration changes for good."""
    root, saccade = logging.getLogger(), logging.getLogger("saccade")
    before = root.level, saccade.level, [*root.handlers]
    yield
    for handler in {*root.handlers} - {*before[2]}:
        root.removeHandler(handler)
    root.setLevel(before[0])
    saccade.setLevel(before[1])


def test_a_line_has_its_time_its_level_its_process_and_its_event(log):
    log.info("serves %s", "toy", extra=about("ready", models="toy", seconds=1.5))
    (line,), (found,) = log.human.lines, log.objects
    time, rest = line.split(" ", 1)
    assert datetime.fromisoformat(time).tzinfo is not None
    assert rest == "INFO worker 3: serves toy [event=ready]"
    moment = datetime.fromisoformat(found.pop("time"))
    assert moment.utcoffset().total_seconds() == 0
    assert found.pop("pid") > 0
    assert found == {
        "level": "info",
        "event": "ready",
        "message": "serves toy",
        "logger": "saccade.test",
        "process": "worker 3",
        "replica": "replica-1",
        "models": "toy",
        "seconds": 1.5,
    }


def test_a_line_about_a_session_names_the_session_and_the_key(log):
    client = ClientFacts("robot", "abc", "0af7651916cd43dd8448eb211c80319c")
    log.error("it failed", extra=about("session_failed", client))
    assert log.human.lines[0].endswith("[event=session_failed session=abc key=robot]")
    (found,) = log.objects
    assert (found["session"], found["key"]) == ("abc", "robot")
    assert found["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_what_a_client_sent_can_neither_end_a_line_nor_move_the_terminal_s_cursor(log):
    client = ClientFacts(HOSTILE, HOSTILE)
    log.info("%s", HOSTILE, extra=about("refused", client, what=HOSTILE))
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("it failed: %s", HOSTILE, extra=about("session_failed", client))
    lines = [line for text in log.human.lines for line in text.split("\n")]
    assert all(line.isprintable() for line in lines)
    assert all(line.isascii() for line in log.json.lines)
    begun = [line for line in lines if re.match(r"\S", line)]
    assert len(begun) == 2, "a traceback's lines are indented"
    assert "\\n2026-01-01 INFO forged" in begun[0]
    first, second = log.objects
    assert first["what"].startswith("a\n2026-01-01"), "JSON escapes for itself"
    assert second["exception"]["type"] == "ValueError"
    assert "test_logs.py" in second["exception"]["stack"]


def test_every_value_is_one_that_json_has(log):
    log.info("no number", extra=about("ready", seconds=math.nan, models=None))
    (found,) = log.objects
    assert (found["seconds"], found["models"]) == ("nan", None)


def test_a_long_message_is_cut_and_says_so(log):
    log.warning("%s", "x" * 100_000)
    assert len(log.human.lines[0]) < 5000
    assert "95904 more characters" in log.human.lines[0]


def test_a_library_s_line_has_the_same_shape(log):
    log.warning("Exception in ASGI application")
    assert log.objects[0]["event"] == "other"
    assert log.human.lines[0].endswith(
        "WARNING worker 3: Exception in ASGI application"
    )


def test_a_kind_of_line_is_bounded_and_the_rest_counted(log):
    for number in range(1000):
        log.warning("no. %d of %s", number, "many")
        log.error("100 % of another")
    assert len(log.human.lines) == 2 * MOST_OF_A_KIND
    log.now_s = PERIOD_S
    log.warning("no. %d of %s", 7, "many")
    said = "no. 7 of many (990 more like this were not logged)"
    assert log.human.lines[-1].endswith(said)
    assert log.objects[-1]["more_like_this"] == 990


def test_what_was_left_out_is_told_once_also_where_nothing_more_comes(log):
    for number in range(15):
        log.warning("no. %d of many", number)
        log.error("once") if number == 7 else None
    assert log.bound.take_overdue() == [], "the period is not over"
    log.now_s = PERIOD_S
    kind = ("saccade.test", logging.WARNING, "no. %d of many")
    assert log.bound.take_overdue() == [(kind, 5)]
    assert log.bound.take_overdue() == []
    log.warning("no. %d of many", 16)
    assert log.objects[-1].get("more_like_this") is None


async def test_a_process_writes_what_it_left_out(
    process_log, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("saccade.server.logs.bound.PERIOD_S", 0.0)
    monkeypatch.setattr("saccade.server.logs.bound.MOST_OF_A_KIND", 0)
    configure_logs(LogChoices("human"))
    logging.getLogger("saccade.journal").info("too many", extra=about("ready"))
    await write_left_out()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("1 more lines of too many were not logged [event=left_out]")


def test_debugging_shows_more_of_a_kind(log):
    for number in range(2 * MOST_DEBUGGING):
        log.debug("no. %d", number)
    assert len(log.human.lines) == MOST_DEBUGGING


def test_tracebacks_of_one_cause_are_one_kind(log):
    for number in range(100):
        log.error(f"socket.accept() out of system resource\nsocket: {number}")
    assert len(log.human.lines) == MOST_OF_A_KIND


def test_a_client_that_is_refused_again_and_again_is_one_line_a_code(log, monkeypatch):
    monkeypatch.setattr("saccade.server.logs.journal.JOURNAL", log)
    for number in range(500):
        code = ("unauthorized", "bad_frame")[number % 2]
        log_refusal(("10.0.0.7", number), f"GET /{number}", code, HOSTILE)
    assert [each["code"] for each in log.objects] == ["unauthorized", "bad_frame"]
    log.now_s = PERIOD_S
    log_refusal(("10.0.0.7", 1), "GET /" + "x" * 9999, "bad_frame", "no " * 9999)
    assert log.objects[-1]["more_like_this"] == 249
    assert len(log.human.lines[-1]) < 1000


def test_the_level_is_toggled_between_debug_and_that_of_the_settings(process_log):
    saccade = logging.getLogger("saccade.server.any")
    configure_logs(LogChoices("human", "warning"))
    assert saccade.getEffectiveLevel() == logging.WARNING
    assert toggle_level() == "debug"
    assert saccade.isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("uvicorn.error").isEnabledFor(logging.DEBUG)
    assert toggle_level() == "warning"
    set_level("error")
    assert not saccade.isEnabledFor(logging.WARNING)
    configure_logs(LogChoices("human", "debug"))
    assert toggle_level() == "info"


def test_a_process_writes_each_line_once_however_often_it_is_configured(
    process_log, capsys: pytest.CaptureFixture[str]
):
    configure_logs()
    configure_logs(LogChoices(replica="r"), "engine")
    logging.getLogger("saccade.journal").info("once", extra=about("ready"))
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert capsys.readouterr().err.count("\n") == 1


def calls_of(node: ast.AST, wanted: Callable[[ast.Call], bool]) -> list[ast.Call]:
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    return [each for each in calls if wanted(each)]


def logs(call: ast.Call) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id in {"LOG", "JOURNAL"}
        and function.attr in LEVELS
    )


def test_every_line_of_the_server_names_an_event_and_every_event_has_a_line():
    named: set[str] = set()
    for file in (ROOT / "server").rglob("*.py"):
        text = file.read_text("utf-8")
        has_log = "LOG." in text or "JOURNAL." in text
        for call in calls_of(ast.parse(text), logs) if has_log else ():
            keywords = {each.arg for each in call.keywords}
            assert "extra" in keywords, f"{file}:{call.lineno}"
        named |= set(re.findall(r'(?<![.\w])(?:about|tell)\(\s*"(\w+)"', text))
        named |= set(re.findall(r'partial\(tell, "(\w+)"', text))
    assert named == set(EVENTS)


def test_the_page_for_operators_has_every_event():
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = page.partition("\n## Logs\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", section, re.MULTILINE))
    assert rows == EVENTS
