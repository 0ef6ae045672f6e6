"""docs/protocol.md agrees with the code, byte for byte and field for field."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import msgpack
import numpy as np
import pytest

from saccade.model.events.encodings.packed import pack, unpack
from saccade.model.events.types import EVENT_DTYPE
from saccade.server.protocol import errors
from saccade.server.protocol.codec import (
    CLIENT_RECORDS,
    SERVER_RECORDS,
    decode_client,
    decode_server,
    encode_client,
    encode_server,
)
from saccade.server.protocol.conversation import Limits
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.fields import Column, Record
from saccade.server.protocol.messages import (
    Every,
    ReadoutWindow,
    Report,
    Window,
    error_message,
)
from saccade.server.protocol.watching import (
    WATCH_RECORDS,
    WatchedEvents,
    encode_watched,
)

LEAVES = ProtocolError.__subclasses__()
UNITS = {"_us": "µs", "_ms": "ms"}
PAGE = Path(__file__).parents[3].joinpath("docs", "protocol.md").read_text("utf-8")
FENCE = re.compile(r'^```(\w+) title="([\w-]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
BLOCKS = {(form, name): body for form, name, body in FENCE.findall(PAGE)}
EXAMPLES = PAGE.split("\n## Examples")[1]
CLIENTS = re.findall(
    "^#### (.+)$", EXAMPLES.split("### From the server")[0], re.MULTILINE
)
SERVERS = re.findall(
    "^#### (.+)$", EXAMPLES.split("### From the server")[1], re.MULTILINE
)


def dumped(name: str) -> bytes:
    """Read a hex dump: offset, two spaces, up to sixteen bytes, ASCII."""
    return b"".join(
        bytes.fromhex(line[6:53]) for line in BLOCKS["hex", name].splitlines()
    )


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row, without headings and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize("name", CLIENTS)
def test_each_example_of_a_client_is_what_the_codec_writes(name):
    message = decode_client(dumped(name))
    assert encode_client(message) == dumped(name)
    text = BLOCKS["json", name].strip()
    assert decode_client(text) == message
    assert encode_client(message, text=True) == text


@pytest.mark.parametrize("name", SERVERS)
def test_each_example_of_a_server_is_what_the_codec_writes(name):
    message = decode_server(dumped(name))
    assert encode_server(message, text=False) == dumped(name)
    text = BLOCKS["json", name].strip()
    assert decode_server(text) == message
    assert encode_server(message, text=True) == text


@pytest.mark.parametrize("name", [*CLIENTS, *SERVERS])
def test_the_ascii_beside_the_bytes_is_theirs(name):
    shown = "".join(line[55:] for line in BLOCKS["hex", name].splitlines())
    assert shown == "".join(chr(b) if 32 <= b < 127 else "." for b in dumped(name))


def test_every_message_has_an_example():
    sent = {msgpack.unpackb(dumped(name))["type"] for name in CLIENTS}
    answered = {msgpack.unpackb(dumped(name))["type"] for name in SERVERS}
    assert sent == set(CLIENT_RECORDS)
    assert answered == set(SERVER_RECORDS)


def test_the_events_of_the_example_are_those_in_the_text():
    frame = decode_client(dumped("events"))
    listed = re.search(r"Three events.*?: (.*)\.$", EXAMPLES, re.MULTILINE)
    assert listed
    wanted = [ast.literal_eval(event) for event in re.findall(r"\[\d.*?\]", listed[1])]
    assert unpack(frame.data, frame.t_base_us).tolist() == [tuple(e) for e in wanted]


def test_the_error_of_the_example_is_the_one_that_the_code_raises():
    shown = decode_server(dumped("error"))
    assert shown == error_message(errors.FrameUnsorted(4, 1, 19, 20))


def tables(title: str) -> dict[str, list[list[str]]]:
    """Return the rows of each message's table, without what the fields mean."""
    parts = re.split(r"^### `(\w+)`\n", section(title), flags=re.MULTILINE)[1:]
    return {
        name: [row[:-1] for row in rows(body)]
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def type_words(name: str, column: Column) -> str:
    """Write a field's type: units, and what may stand in its place."""
    units = [unit for end, unit in UNITS.items() if name.endswith(end)]
    return ", ".join([column.type.name, *units])


def client_row(name: str, column: Column) -> list[str]:
    default = ""
    if column.default is not dataclasses.MISSING:
        write = column.type.write
        value = column.default
        value = write(value) if write and value is not None else value
        default = f"`{json.dumps(value, separators=(',', ':'))}`"
    return [f"`{name}`", type_words(name, column), column.type.range, default]


def server_row(name: str, column: Column) -> list[str]:
    words = type_words(name, column)
    if column.omitted:
        words += ", or absent"
    elif column.default is None:
        words += ", or null"
    return [f"`{name}`", words]


@pytest.mark.parametrize(
    ("title", "records", "row"),
    [
        ("What a client sends", CLIENT_RECORDS, client_row),
        ("What a server sends", SERVER_RECORDS, server_row),
    ],
)
def test_each_table_of_fields_is_what_the_messages_declare(title, records, row):
    assert tables(title) == {
        kind: [row(name, column) for name, column in record.columns.items()]
        for kind, record in records.items()
    }


def test_each_table_of_a_watchers_messages_is_what_the_messages_declare():
    parts = re.split(
        r"^#### `(\w+)`\n", section("Watching a session"), flags=re.MULTILINE
    )[1:]
    found = {
        name: [row[:-1] for row in rows(body)]
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
    assert found == {
        kind: [server_row(name, column) for name, column in record.columns.items()]
        for kind, record in WATCH_RECORDS.items()
    }


def test_the_example_of_watched_events_is_what_is_written():
    (text,) = re.findall(r"`(\{\"type\":\"events\".*?\"of\".*?\})`", PAGE)
    data = pack(np.array([(1000, 3, 5, 0)], EVENT_DTYPE), 1000)
    assert encode_watched(WatchedEvents(1000, data, 7), text=True) == text


def test_the_fields_of_report_and_readout_are_what_their_messages_declare():
    n = Record(Report).columns["n"]
    half_life = Record(ReadoutWindow).columns["half_life_ms"]
    assert n.rule
    assert half_life.rule
    policies = " and ".join(f"`{value}`" for value in n.rule.values)
    assert f"`n` is an integer, {n.type.range}, and goes with {policies} only" in PAGE
    assert f"is a number of milliseconds, {half_life.type.range}, and goes" in PAGE
    assert f"goes with `{half_life.rule.values[0]}` only" in PAGE


def test_every_error_is_documented_with_its_close_code():
    documented = {row[0].strip("`"): int(row[1]) for row in rows(section("Errors"))}
    assert documented == {leaf.code: leaf.close_code for leaf in LEAVES}
    assert len(documented) == len(LEAVES)


def test_every_close_code_is_explained():
    explained = {int(code) for code in re.findall(r"\d{4}", section("Close codes"))}
    assert {leaf.close_code for leaf in LEAVES if leaf.fatal} <= explained


def test_the_limits_are_the_defaults_of_the_code():
    documented = {row[0].strip("`"): row[1] for row in rows(section("Limits"))}
    for name, value in dataclasses.asdict(Limits()).items():
        assert documented[name] == str(value)


def test_every_report_and_readout_in_the_text_decodes():
    shown = re.findall(r"^\| `(\{.*?\})` \|", PAGE, re.MULTILINE)
    every = re.findall(r'"every":"(\w+)"', " ".join(shown))
    window = re.findall(r'"window":"(\w+)"', " ".join(shown))
    assert [*every, *window] == [*get_args(Every), *get_args(Window)]
    for text in shown:
        text = re.sub(r"(?<=:)[NH]", "5", text)
        field = "readout" if "window" in text else "report"
        decode_client(f'{{"type":"open","model":"m","{field}":{text}}}')


def test_what_is_typed_by_hand_decodes():
    typed = re.findall(r"^> (\{.*\})$", PAGE, re.MULTILINE)
    assert len(typed) == 3
    for text in typed:
        decode_client(text)


def test_the_client_of_the_page_compiles():
    compile(BLOCKS["python", "client"], "docs/protocol.md", "exec")
