"""The dashboards, the alerts, and the metrics that operations.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from tests.project.repository import ROOT

PAGE: Final = ROOT / "docs/operations.md"
ALERTS: Final = ROOT / "docker/alerts.yml"
ALERTS_TEST: Final = ROOT / "tests/system/alerts_test.yml"
DASHBOARDS: Final = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))
SUFFIXES: Final = ("_bucket", "_count", "_sum")
ROW: Final = re.compile(
    r"^\| `([a-z_]+)` \| (counter|gauge|histogram|info) \| (.*?) \|", re.MULTILINE
)


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Return each metric's kind and labels, as the page lists them."""
    return {
        name: (kind, frozenset(re.findall(r"`([a-z_]+)`", labels)))
        for name, kind, labels in ROW.findall(PAGE.read_text())
    }


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def queries() -> Iterator[tuple[str, str]]:
    """Yield where each query stands, and the query."""
    for path in DASHBOARDS:
        board = dashboard(path)
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{path.stem}: ${variable['name']}", variable["query"]["query"]
    for rule in rules():
        yield rule.get("alert", rule.get("record")), rule["expr"]
