"""Dashboards and alerts ask for metrics that exist; Grafana and promtool take them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from enum import Enum
from itertools import combinations
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml
from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.project.monitoring import (
    ALERTS,
    ALERTS_TEST,
    DASHBOARDS,
    PAGE,
    SUFFIXES,
    alerts,
    dashboard,
    documented,
    queries,
    rules,
)

NAMES = re.compile(r"\b(?:saccade|process|python)_[a-z_]+\b(?!:)")
OF_PROMETHEUS = frozenset({"job", "instance", "le"})
GROUPED = re.compile(r"\b(?:by|on) \((.*?)\)")
FIELDS = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> None:
    plugins.register_default_plugins()


def promtool(*arguments: str) -> str:
    """Run promtool, or skip the test; return what it says."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on this machine (on Debian: apt install prometheus)")
    ran = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def misfits(value: Any, expected: Any, where: str) -> list[str]:
    """Return where a value is not of its declared type: Grafana's schema, as types."""
    origin, inner = get_origin(expected), get_args(expected)
    if origin in {Union, UnionType}:
        tried = [misfits(value, one, where) for one in inner]
        return min(tried, key=len)
    if origin is list:
        return [
            fault
            for n, each in enumerate(value)
            for fault in misfits(each, inner[0], f"{where}[{n}]")
        ]
    if origin is Literal:
        return [] if value in inner else [f"{where}: {value!r} is not in {inner}"]
    if not isinstance(expected, type) or expected is object:
        return []
    if issubclass(expected, Enum):
        known = {one.value for one in expected}
        return [] if value in known else [f"{where}: {value!r} is not in {known}"]
    if isinstance(value, dict) and hasattr(expected, "from_json"):
        value = expected.from_json(value)  # some parts are left as they were read
    if not isinstance(value, (int, float) if expected is float else expected):
        return [f"{where}: {value!r} is no {expected.__name__}"]
    return misfits_of_fields(value, where)


def misfits_of_fields(value: Any, where: str) -> list[str]:
    if not type(value).__module__.startswith("grafana_foundation_sdk"):
        return []
    hints = get_type_hints(type(value))
    return [
        fault
        for name, each in vars(value).items()
        if name in hints and each is not None
        for fault in misfits(each, hints[name], f"{where}.{name}")
    ]


@FIELDS
def test_a_dashboard_has_no_field_that_grafana_does_not_have(path: Path) -> None:
    """What Grafana's published types do not know is lost on the way through them."""
    told = dashboard(path)
    read = Dashboard.from_json(json.loads(json.dumps(told)))
    again = json.loads(encoder.JSONEncoder(sort_keys=True).encode(read))
    assert lost(told, again, path.stem) == []


@FIELDS
def test_every_field_of_a_dashboard_is_of_the_type_that_grafana_declares(path) -> None:
    read = Dashboard.from_json(dashboard(path))
    assert misfits_of_fields(read, path.stem) == []


def lost(told: Any, again: Any, where: str) -> list[str]:
    """Return the places whose value is not the same after the way through the types."""
    if isinstance(told, dict) and isinstance(again, dict):
        return [
            fault
            for name, value in told.items()
            for fault in lost(value, again.get(name), f"{where}.{name}")
        ]
    if isinstance(told, list) and isinstance(again, list) and len(told) == len(again):
        pairs = enumerate(zip(told, again, strict=True))
        return [fault for n, (a, b) in pairs for fault in lost(a, b, f"{where}[{n}]")]
    return [] if told == again else [f"{where}: {told!r} became {again!r}"]


def test_the_check_of_dashboards_finds_a_wrong_name_and_a_wrong_type() -> None:
    told = dashboard(DASHBOARDS[0])
    told["tittle"] = told["panels"][0]["gridPoss"] = 1
    read = Dashboard.from_json(told)
    again = json.loads(encoder.JSONEncoder().encode(read))
    assert [fault.split(":")[0] for fault in lost(told, again, "d")] == [
        "d.panels[0].gridPoss",
        "d.tittle",
    ]
    told["refresh"], told["graphTooltip"] = 10, 7
    found = misfits_of_fields(Dashboard.from_json(told), "d")
    assert [fault.split(":")[0] for fault in found] == ["d.graph_tooltip", "d.refresh"]


def test_every_query_asks_for_metrics_and_labels_that_there_are() -> None:
    assert [where for where, query in queries() if not is_answerable(query)] == []


def test_the_check_of_queries_finds_an_unknown_metric_and_an_unknown_label() -> None:
    assert is_answerable('sum by (model) (saccade_sessions_open{job="a"})')
    assert not is_answerable("saccade_sessions_opened")
    assert not is_answerable("sum by (modell) (saccade_sessions_open)")
    assert not is_answerable('saccade_sessions_open{route="/"}')


def is_answerable(query: str) -> bool:
    """Return whether a server has the metrics and the labels that a query names."""
    known = documented()
    names = {family(name, known) for name in NAMES.findall(query)}
    if not names:
        return re.match(r"(sum\()?up\{|saccade:", query) is not None
    bare = re.sub(r'"[^"]*"', "", query)
    asked = {one for part in GROUPED.findall(bare) for one in part.split(", ")}
    asked |= {*re.findall(r"([a-z_]+)(?:=~|!=|=)", bare)}
    if not names <= known.keys():
        return False
    return asked <= OF_PROMETHEUS.union(*(known[name][1] for name in names))


def family(name: str, known: dict[str, Any]) -> str:
    """Return the family of a sample's name."""
    for suffix in SUFFIXES:
        short = name.removesuffix(suffix)
        if short != name and known.get(short, ("",))[0] == "histogram":
            return short
    return name


def test_every_metric_that_a_server_has_is_on_a_dashboard_or_in_an_alert() -> None:
    """All but the old name, and what others say better."""
    known = documented()
    asked = {family(n, known) for _, q in queries() for n in NAMES.findall(q)}
    unused = {name for name in known if name.startswith("saccade_")} - asked
    assert unused == {
        "saccade_sessions_ashore",
        "saccade_compile_seconds",
        "saccade_background_failures_total",
        "saccade_device_batches_total",
        "saccade_device_batch_seconds_total",
        "saccade_device_events_scored_total",
        "saccade_device_failures_total",
        "saccade_device_queue_ticks",
        "saccade_device_slots_used",
        "saccade_draining",
    }


@FIELDS
def test_no_two_panels_of_a_dashboard_overlap_or_share_a_number(path) -> None:
    panels = dashboard(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = [
            one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
            for at, size in (("x", "w"), ("y", "h"))
        ]
        assert any(beside), (one, other)
        assert one["x"] + one["w"] <= 24


@FIELDS
def test_a_dashboard_asks_the_source_the_job_and_the_servers_that_are_chosen(path):
    board = dashboard(path)
    variables = {one["name"] for one in board["templating"]["list"]}
    used = {*re.findall(r"\$\{?([a-z]+)", json.dumps(board))}
    assert variables <= used
    assert used - {"name"} <= variables
    for panel in board["panels"]:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_the_dashboards_are_told_apart_and_link_to_each_other() -> None:
    boards = [dashboard(path) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) == 3
    for board in boards:
        (link,) = board["links"]
        assert {*link["tags"]} <= {*board["tags"]}
        assert link["includeVars"]


def test_promtool_accepts_the_alerts() -> None:
    said = promtool("check", "rules", str(ALERTS))
    assert f"{len(rules())} rules found" in said


def test_each_alert_fires_where_it_must_and_nowhere_else() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(ALERTS_TEST))


def test_there_is_a_case_for_each_alert_that_fires_and_one_that_does_not() -> None:
    cases: dict[str, set[bool]] = {name: set() for name in alerts()}
    for case in yaml.safe_load(ALERTS_TEST.read_text())["tests"]:
        for one in case["alert_rule_test"]:
            cases[one["alertname"]].add(bool(one["exp_alerts"]))
    assert cases == {name: {False, True} for name in alerts()}


def test_the_page_says_of_each_alert_what_it_means_and_what_to_do() -> None:
    rows = re.findall(
        r"^\| `(Saccade\w+)` \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.M
    )
    assert [name for name, _, _ in rows] == [*alerts()]
    assert all(len(means) > 20 and len(todo) > 20 for _, means, todo in rows)
    assert "\n## Alerts\n" in PAGE.read_text()
    for rule in alerts().values():
        assert rule["annotations"]["runbook"] == "docs/operations.md#alerts"
        assert rule["labels"]["severity"] in {"page", "ticket"}
