"""Every block of code of the documentation parses, and its commands' flags exist."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import yaml

from saccade.__main__ import COMMANDS, main
from tests.docs.pages import PAGES, ROOT, Block, all_blocks

ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "<", "2>", "(", ")"}
"""Words at which a command of a shell ends."""
PLACEHOLDERS = {"task=TASK": "task=motions", "checkpoint=RUN": "checkpoint=motions"}
INLINE = re.compile(r"(?<!`)`((?:[A-Z_]+=\S+ )*saccade [^`\n]+)`(?!`)")


def ids(block: Block) -> str:
    return block.place


def saccade_commands(script: str) -> Iterator[list[str]]:
    """Yield the arguments of each `saccade` command of a script."""
    script = re.sub(r"\\\n", " ", script)
    script = re.sub(r"\$\(([^)]*)\)", r"; \1 ;", script)
    for line in whole_lines(script):
        words: list[str] = []
        for word in [*split(line), ";"]:
            if word in ENDS or set(word) <= set("|&;<>()"):
                yield from arguments(words)
                words = []
            else:
                words.append(word)


def whole_lines(script: str) -> Iterator[str]:
    """Yield the lines of a script, those together over which a quotation goes."""
    waiting = ""
    for line in script.splitlines():
        waiting += line
        try:
            split(waiting)
        except ValueError:  # the quotation has not ended
            waiting += " "
            continue
        yield waiting
        waiting = ""
    assert not waiting, f"a quotation does not end: {waiting}"


def split(line: str) -> list[str]:
    """Return a line's words, without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.commenters = "#" if re.search(r"(^|\s)#", line) else ""
    lexer.whitespace_split = True
    return list(lexer)


def arguments(words: list[str]) -> Iterator[list[str]]:
    """Yield what follows `saccade`, where that is the command."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words and words[0] == "saccade" and len(words) > 1:
        rest = words[1:]
        # The 2 of `2> file`, which is no argument.
        yield [PLACEHOLDERS.get(w, w) for w in (rest[:-1] if rest[-1] == "2" else rest)]


class Understood(Exception):
    """The command line was read; nothing is to be run."""


class Misread(Exception):
    """The command line was refused."""


@pytest.fixture
def reads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every command read its arguments, and end before it does anything."""
    read = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *args: Any, **more: Any) -> NoReturn:
        read(self, *args, **more)
        raise Understood

    def refuse(self: argparse.ArgumentParser, message: str) -> NoReturn:
        raise Misread(message)

    def understood(*_: object) -> NoReturn:
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    for command in ("_train", "_evaluate"):
        monkeypatch.setattr(f"saccade.model.training.cli.{command}", understood)


def read_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return why a command line is refused; nothing if it is understood."""
    if words[0] not in COMMANDS:
        is_option = words[0] in {"--version", "--help"}
        return "" if is_option else f"no command {words[0]}"
    if any(word.startswith("resume=") for word in words):
        return ""  # reads the folder of a run before anything else
    try:
        main(words)
    except Understood:
        return ""
    except Misread as refusal:
        return str(refusal)
    except SystemExit:  # --help
        return ""
    return capsys.readouterr().err or "nothing read its arguments"


@pytest.mark.parametrize("block", all_blocks("sh"), ids=ids)
def test_the_commands_of_a_block_are_understood(block, reads_only, capsys):
    refusals = {
        shlex.join(words): refusal
        for words in saccade_commands(block.text)
        if (refusal := read_command(words, capsys))
    }
    assert refusals == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_in_a_page_s_sentences_are_understood(page, reads_only, capsys):
    text = page.read_text("utf-8")
    refusals = {
        found: refusal
        for found in INLINE.findall(text)
        for words in saccade_commands(found)
        if "…" not in found and (refusal := read_mention(words, capsys))
    }
    assert refusals == {}


def read_mention(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return why a command is refused that a sentence names, perhaps not whole."""
    if len(words) == 1 and words[0] in COMMANDS:
        return ""
    refusal = read_command(words, capsys)
    return "" if refusal.startswith("the following arguments are required") else refusal


def test_the_check_finds_a_flag_that_does_not_exist(reads_only, capsys):
    text = "X=1 saccade serve --hots 0.0.0.0 2> log & saccade train task=motions a=1"
    found = [read_command(words, capsys) for words in saccade_commands(text)]
    assert "unrecognized arguments: --hots" in found[0]
    assert "a" in found[1]
    assert found[1]
    (words,) = saccade_commands("export K=$(saccade kye me) # saccade no")
    assert read_command(words, capsys) == "no command kye"


@pytest.mark.parametrize("block", all_blocks("sh"), ids=ids)
def test_a_shell_reads_the_block(block):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    read = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True
    )
    assert read.stderr == ""


@pytest.mark.parametrize("block", all_blocks("python"), ids=ids)
def test_python_compiles_the_block(block):
    compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", all_blocks("json"), ids=ids)
def test_the_block_is_json(block):
    json.loads(block.text)


@pytest.mark.parametrize("block", [*all_blocks("yaml"), *all_blocks("toml")], ids=ids)
def test_the_block_is_a_file_of_settings(block):
    if block.language == "toml":
        assert tomllib.loads(block.text)
    else:
        assert list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize("language", ["sh", "python", "json", "yaml"])
def test_there_are_blocks_to_check(language):
    assert all_blocks(language)


def test_the_prometheus_configuration_is_one(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    (block,) = [b for b in all_blocks("yaml") if b.title == "prometheus.yml"]
    (tmp_path / "prometheus.yml").write_text(block.text)
    for name in ("prometheus.key", "chain.pem"):
        (tmp_path / name).write_text("")
    command = ["promtool", "check", "config", "--syntax-only", "prometheus.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert block.page == ROOT / "docs/operator.md"
