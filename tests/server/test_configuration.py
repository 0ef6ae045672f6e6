"""Settings from a file, a variable or an option, and `saccade config`."""

from __future__ import annotations

import math
import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings as how, strategies as some

from saccade.server.cli import serve
from saccade.server.command_line import config, written
from saccade.server.configuration import (
    ConfigurationError,
    Origin,
    Resolved,
    UnknownSetting,
    UnreadableConfig,
    WrongSetting,
)
from saccade.server.devices import Devices
from saccade.server.setting_values import (
    ReplicaBounds,
    Shape,
    choices_of,
    default_of,
    option,
    shown,
)
from saccade.server.settings import Settings, resolve_settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "docker" / "saccade.toml"
FILE = "SACCADE_CONFIG"
TYPES = get_type_hints(Settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "saccade.toml"


def resolved(file: Path, text: str, **options: str) -> Resolved:
    file.write_text(text)
    return resolve_settings({FILE: str(file)}, options)


def test_an_option_wins_over_a_variable_over_the_file_over_the_default(
    file: Path,
) -> None:
    file.write_text("port = 3\nslots = 3\nsessions = 3\n")
    environment = {FILE: str(file), "SACCADE_PORT": "2", "SACCADE_SLOTS": "2"}
    found = resolve_settings(environment, {"port": "1", "host": None})
    names = ("port", "slots", "sessions", "window_events")
    assert [found.values[name] for name in names] == [1, 2, 3, 1 << 19]
    assert [found.origins[name].kind for name in names] == [
        "option", "environment", "file", "default",
    ]  # fmt: skip
    assert [str(found.origins[name]) for name in names] == [
        "--port", "SACCADE_SLOTS", f"{file}, line 3", "default",
    ]  # fmt: skip
    assert found.file == file


def test_the_option_names_the_file_before_the_variable_does(
    file: Path, tmp_path: Path
) -> None:
    file.write_text("port = 3\n")
    environment = {FILE: str(tmp_path / "none.toml")}
    assert Settings.read(environment, {"config": str(file)}).port == 3
    assert Settings.read({FILE: ""}, {"config": None}).port == 8000


def test_a_file_holds_every_type_of_setting(file: Path) -> None:
    text = """
        # a comment
        no_watch = true
        key_sessions = inf
        drain_s = 2
        device = "cpu:0,1"
        store = "memory"
        buckets = ["8x4", "64x1"]
        origins = ["https://a", "https://b"]
        models = ["mine", "/else/where"]
        keys_file = "secrets/keys"
        """
    values = resolved(file, text).values
    assert values["no_watch"] is True
    assert values["key_sessions"] == math.inf
    assert values["drain_s"] == 2.0
    assert values["device"] == Devices("cpu", (0, 1))
    assert values["store"] == "memory"
    assert values["buckets"] == ((8, 4), (64, 1))
    assert values["origins"] == ("https://a", "https://b")
    assert values["models"] == (file.parent / "mine", Path("/else/where"))
    assert values["keys_file"] == file.parent / "secrets" / "keys"


def test_paths_in_a_file_begin_at_its_folder_or_at_home(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", "/home/somebody")
    file.write_text('store_path = "sessions"\ncompiled = "~/kept"\n')
    found = Settings.read({}, {"config": "../saccade.toml"})
    assert found.store_path.resolve() == file.parent.resolve() / "sessions"
    assert found.compiled == Path("/home/somebody/kept")


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("key-sessions = 3", "did you mean 'key_sessions'?"),
        ("model = ['m']", "did you mean 'models'?"),
        ("[server]\nport = 1", "without tables"),
        ("zzz = 1", "saccade config"),
    ],
)
def test_a_name_that_is_no_setting_is_named_with_its_line(
    file: Path, line: str, remedy: str
) -> None:
    with pytest.raises(UnknownSetting) as caught:
        resolved(file, f"port = 1\n\n{line}\n")
    assert str(caught.value).startswith(f"{file}, line 3: there is no setting")
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("port = '80'", "'80' is not a whole number"),
        ("port = true", "True is not a whole number"),
        ("port = 70000", "port 70000 is not in 0..65535"),
        ("insecure = 1", "1 is not true or false"),
        ("drain_s = '5'", "'5' is not a number"),
        ("snapshot_s = nan", "it must be >= 0"),
        ("store = 'disk'", "not one of sqlite, memory, redis"),
        ("store = 3", 'is not one of "sqlite", "memory", "redis"'),
        ("origins = 'https://a'", "is not a list of texts"),
        ("models = [1]", "is not a list of paths"),
        ("keys_file = ''", "is not a path"),
        ("buckets = ['8']", "a bucket is ROWSxTICKS"),
        ("device = 'gpu'", "is no device"),
    ],
)
def test_a_value_that_is_wrong_is_named_with_its_line(
    file: Path, line: str, reason: str
) -> None:
    with pytest.raises(WrongSetting) as caught:
        resolved(file, f"# first\n{line}\n")
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert reason in str(caught.value)
    assert line.split(" ")[0] in str(caught.value)


def test_a_wrong_value_names_the_option_or_the_variable_that_holds_it() -> None:
    with pytest.raises(WrongSetting, match=r"^--port: 'x' is no whole number$"):
        resolve_settings({"SACCADE_PORT": "y"}, {"port": "x"})
    with pytest.raises(WrongSetting, match=r"^SACCADE_DRAIN_S: 'y' is no number$"):
        resolve_settings({"SACCADE_DRAIN_S": "y"}, {})


def test_a_variable_that_kubernetes_sets_is_explained() -> None:
    with pytest.raises(WrongSetting, match=r"SACCADE_PORT: .* enableServiceLinks"):
        resolve_settings({"SACCADE_PORT": "tcp://10.96.0.1:8000"}, {})


def test_a_password_of_the_wrong_type_is_not_quoted(file: Path) -> None:
    with pytest.raises(WrongSetting) as caught:
        resolved(file, "tls_key_password = 1234\n")
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("content", [b"port = ", b"port = '\xff'", b"port=1\nport=2"])
def test_a_file_that_is_no_toml_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(UnreadableConfig, match=r"no TOML|not UTF-8"):
        resolve_settings({}, {"config": str(file)})


def test_a_file_that_is_missing_is_refused_and_ends_the_server_s_start(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnreadableConfig, match="No such file"):
        resolve_settings({}, {"config": str(file)})
    assert serve(["--config", str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_an_option_may_turn_off_what_the_file_turns_on(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("no_watch = true\ninsecure = true\n")
    assert config(["--config", str(file), "--no-watch", "false", "--insecure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert printed(lines, "no_watch") == ("no_watch = false", "--no-watch")
    assert printed(lines, "insecure") == ("insecure = true", "--insecure")


def printed(lines: list[str], name: str) -> tuple[str, str]:
    """Return what is printed of a setting: its value, and its origin."""
    (line,) = (each for each in lines if f" {name} " in f" {each}")
    value, _, origin = line.rpartition("  # ")
    return value.strip(), origin


def test_the_printed_settings_say_where_each_comes_from(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file.write_text("slots = 7\n")
    monkeypatch.setenv("SACCADE_DRAIN_S", "9")
    monkeypatch.setenv(FILE, str(file))
    assert config(["--port", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert printed(lines, "port") == ("port = 1", "--port")
    assert printed(lines, "drain_s") == ("drain_s = 9.0", "SACCADE_DRAIN_S")
    assert printed(lines, "slots") == ("slots = 7", f"{file}, line 1")
    assert printed(lines, "host") == ('host = "127.0.0.1"', "default")
    assert printed(lines, "tls_cert") == ("# tls_cert is not set", "default")


def test_passwords_are_not_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_TLS_KEY_PASSWORD", "sesame")
    monkeypatch.setenv("SACCADE_STORE_URL", "redis+cluster://:sesame@a:1,b:2")
    assert config([]) == 0
    text = capsys.readouterr().out
    assert "sesame" not in text
    lines = text.splitlines()
    for name in ("tls_key_password", "store_url"):
        origin = f"SACCADE_{name.upper()}"
        assert printed(lines, name) == (f"# {name} holds a password", origin)


def test_settings_that_do_not_fit_together_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert config(["--host", "0.0.0.0"]) == 2
    assert "--insecure" in capsys.readouterr().err


TEXTS = some.text(some.characters(exclude_categories=["Cs"]), max_size=8)
PATHS = TEXTS.map(lambda text: Path("/") / text.replace("\0", ""))
VALUES: dict[Any, some.SearchStrategy[Any]] = {
    str: TEXTS,
    bool: some.booleans(),
    int: some.integers(1, 64),
    float: some.floats(min_value=4096, allow_infinity=False),
    Path: PATHS,
    Path | None: some.none() | PATHS,
    Devices: some.sampled_from([Devices("auto"), Devices("cuda", (0, 2))]),
    ReplicaBounds: some.sampled_from([ReplicaBounds(3, 3), ReplicaBounds(1, 4)]),
    tuple[str, ...]: some.lists(TEXTS).map(tuple),
    tuple[Path, ...]: some.lists(PATHS).map(tuple),
    tuple[Shape, ...] | None: some.none()
    | some.lists(some.tuples(*2 * [some.integers(1, 9)])).map(tuple),
}
"""Values of each type that are in the range of every setting."""
BY_NAME = {
    item.name: some.sampled_from(choices)
    if (choices := choices_of(TYPES[item.name]))
    else VALUES[TYPES[item.name]]
    for item in fields(Settings)
    if not item.metadata["secret"]
}


@given(values=some.fixed_dictionaries(BY_NAME))
@how(max_examples=30)
def test_what_is_printed_is_a_file_of_the_same_settings(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "printed.toml"
    secrets = {"tls_key_password": "", "store_url": "redis://h:1/0"}
    origins = {item.name: Origin("file", "a\nfile") for item in fields(Settings)}
    lines = written(Resolved(values | secrets, origins, file))
    file.write_text("\n".join(lines), "utf-8")
    again = resolve_settings({}, {"config": str(file)})
    assert again.values == values | secrets


ODD = (
    *("10" * 5000, f"1{'0' * 400}", "1e999", "-1", "nan", "0x10", "true", "1979-05-27"),
    *("[[]]", "[1, 'a']", "{}", "''", "'~nobody/x'", '"a\\u0000b"', "[" * 5000, "a"),
)
"""Values that are of the wrong type, out of range, or none."""


def test_whatever_a_file_holds_it_is_taken_or_refused(file: Path) -> None:
    taken = 0
    for name in [*TYPES, "nothing", "a.b"]:
        for value in ODD:
            try:
                found = resolved(file, f"{name} = {value}\n")
            except ConfigurationError:
                continue
            taken += 1
            assert found.origins[name].kind == "file"
    assert taken > 10


def documented_row(item: Field[Any]) -> str:
    """Return a setting's row in the table of docs/configuration.md."""
    kind = TYPES[item.name]
    named = f"`{option(item)}`" if item.metadata["option"] else ""
    notes = (
        ", ".join(f"`{each}`" for each in choices_of(kind)) or item.metadata["range"]
    )
    text = item.metadata["help"].replace("|", "\\|")
    text = f"{text} ({notes})" if notes else text
    return f"| `{item.name}` | {named} | {documented_default(item)} | {text} |"


def documented_default(item: Field[Any]) -> str:
    """Write a default as the page does."""
    places = {"store_path": "~/.local/state/saccade/sessions.sqlite",
              "compiled": "~/.cache/saccade"}  # fmt: skip
    default = places.get(item.name, default_of(item))
    if default is None or default in ("", ()):
        return ""
    return f"`{str(shown(default)).lower()}`"


def test_the_page_has_a_row_for_every_setting() -> None:
    _, table = PAGE.read_text("utf-8").split("\n## Settings\n")
    rows = re.findall(r"^\| `\w+` \| .*$", table, re.M)
    expected = [documented_row(item) for item in fields(Settings)]
    assert [row for row in expected if row not in rows] == [], "are missing"
    assert [row for row in rows if row not in expected] == [], "are too many"


def test_the_example_file_is_one_that_the_server_takes(tmp_path: Path) -> None:
    text = EXAMPLE.read_text("utf-8")
    example = resolved(tmp_path / "example.toml", text)
    assert len([o for o in example.origins.values() if o.kind == "file"]) > 5
    (tmp_path / "keys").write_text("")
    assert Settings(**example.values).keys_file == tmp_path / "keys"
    every = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.M)
    resolved(tmp_path / "every.toml", every)
