from __future__ import annotations

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from saccade.server.command_line import settings_parser
from saccade.server.setting_values import parse_buckets
from saccade.server.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
UNITS = {"s": 1, "MiB": 1 << 20}


def test_the_command_line_wins_over_the_environment() -> None:
    environment = {"SACCADE_PORT": "9000", "SACCADE_SLOTS": "3", "OTHER": "x"}
    settings = Settings.read(environment, {"port": "9001", "host": None})
    assert (settings.port, settings.slots, settings.host) == (9001, 3, "127.0.0.1")


def test_models_and_buckets_are_lists() -> None:
    settings = Settings.read({"SACCADE_BUCKETS": "1x1, 8x4"}, {"models": "a,b/c"})
    assert settings.buckets == ((1, 1), (8, 4))
    assert settings.models == (Path("a"), Path("b/c"))


@pytest.mark.parametrize("text", ["8", "0x1", "ax2", "1x2x3"])
def test_a_bucket_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"bucket|int"):
        parse_buckets(text)


def test_a_precision_is_for_all_models_or_for_one_by_its_name() -> None:
    assert Settings().precisions == {}
    text = "tf32, motions=float32,a=b=bfloat16"
    settings = Settings.read({"SACCADE_MATMUL_PRECISION": text}, {})
    assert settings.precisions == {"": "tf32", "motions": "float32", "a=b": "bfloat16"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("slots", "0"),
        ("buckets", ""),
        ("matmul_precision", "tf64"),
        ("matmul_precision", "motions=half"),
        ("insecure", "maybe"),
        ("snapshot_s", "-1"),
        ("snapshot_s", "nan"),
        ("session_ttl_s", "inf"),
        ("drain_s", "-1"),
    ],
)
def test_a_setting_out_of_range_is_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)" + name):
        Settings.read({}, {name: text})


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "camera.local"])
def test_an_address_that_others_reach_needs_saying_so(host: str) -> None:
    with pytest.raises(ValueError, match="--insecure"):
        Settings.read({}, {"host": host})
    assert Settings.read({}, {"host": host, "insecure": "true"}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert Settings.read({}, {"host": host}).host == host


def documented() -> dict[str, float]:
    """Return each setting's default in the page's table of limits."""
    found: dict[str, float] = {}
    for names, defaults in re.findall(
        r"^\| (`\w+`.*?) \| (.*?) \|", PAGE.read_text(), re.M
    ):
        values = re.split(r", ", defaults)
        found |= zip(re.findall(r"`(\w+)`", names), map(number, values), strict=True)
    return found


def number(text: str) -> float:
    """Read `none`, `16`, `1,024`, `2^19`, `20 s` or `1 MiB`."""
    digits, _, unit = text.replace(",", "").partition(" ")
    base, _, exponent = digits.partition("^")
    if digits == "none":
        return math.inf
    return float(base) ** int(exponent or 1) * UNITS.get(unit, 1)


def test_the_page_s_table_of_limits_has_the_defaults() -> None:
    table = documented()
    settings = Settings()
    assert len(table) > 10
    assert table == {name: getattr(settings, name) for name in table}


def actions() -> dict[str, Any]:
    """Return the options of the command line by the settings' names."""
    return {each.dest: each for each in settings_parser("saccade serve", "")._actions}


def test_each_setting_has_an_option_but_those_that_only_the_environment_sets() -> None:
    options = actions()
    names = {item.name for item in fields(Settings)}
    assert options.keys() - {"help", "config"} <= names
    hidden = {"keys", "tls_key_password", "outbox_messages"}
    assert names - options.keys() == hidden
    assert options["models"].option_strings == ["--model"]


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("port", "(in 0..65535; default 8000)"),
        ("slots", "(> 0; default 256)"),
        ("buckets", "(default: those that suit the device)"),
        ("matmul_precision", "float32 (the default), tf32 or bfloat16"),
        ("key_bytes_per_s", "(>= 4096; default no limit)"),
        ("store", "(sqlite, memory, redis; default sqlite)"),
    ],
)
def test_the_help_of_an_option_shows_its_range_and_default(
    name: str, note: str
) -> None:
    assert note in (actions()[name].help or "")
