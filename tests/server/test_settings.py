from __future__ import annotations

from pathlib import Path

import pytest

from saccade.server.settings import Settings, parse_buckets


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "70000"),
        ("port", "http"),
        ("slots", "0"),
        ("buckets", ""),
        ("insecure", "maybe"),
        ("snapshot_s", "-1"),
        ("snapshot_s", "nan"),
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
