"""The `saccade` command: a table of sub-commands, each imported when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Final, NamedTuple

from saccade import __version__


class Command(NamedTuple):
    """A sub-command: its help, the extra that installs it, and its function."""

    help: str
    extra: str
    target: str


COMMANDS: Final = {
    "serve": Command("run the inference server", "server", "server.cli:serve"),
    "stream": Command(
        "stream a recording or a simulated camera",
        "terminal",
        "clients.commands.cli:stream",
    ),
    "classify": Command(
        "classify recordings through REST",
        "terminal",
        "clients.commands.cli:classify",
    ),
    "inspect": Command(
        "say what a recording holds",
        "terminal",
        "clients.commands.cli:inspect",
    ),
    "config": Command(
        "print the server's settings, and where each comes from",
        "server",
        "server.command_line:config",
    ),
    "doctor": Command(
        "find what would keep a server from serving, and what to do",
        "server",
        "server.doctor.command:doctor",
    ),
    "key": Command("make an API key", "server", "server.cli:key"),
    "demo": Command(
        "see it all: a server, a stream, a batch, metrics",
        "terminal",
        "clients.commands.cli:demo",
    ),
    "bench": Command(
        "measure a running server, or search its capacity",
        "terminal",
        "clients.commands.cli:bench",
    ),
    "train": Command("train a model", "train", "model.training.cli:train"),
    "evaluate": Command(
        "measure a checkpoint's accuracy",
        "train",
        "model.training.cli:evaluate",
    ),
    "download": Command(
        "fetch a task's data set and check it",
        "train",
        "model.training.download:download",
    ),
    "export": Command(
        "make a run's best checkpoint one to serve, with a model card",
        "train",
        "model.training.export:export",
    ),
    "import-upstream": Command(
        "make a servable checkpoint of the paper's authors' own",
        "model",
        "model.upstream.cli:import_upstream",
    ),
}


def usage() -> str:
    """Return the list of sub-commands, one a line."""
    rows = [
        f"  saccade {name:<16} {command.help}" for name, command in COMMANDS.items()
    ]
    return "\n".join(
        ["usage: saccade COMMAND [ARGUMENTS]", "", *rows, "", "COMMAND --help: more."]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        sys.stdout.write(usage() + "\n")
        return 0
    if arguments[0] in {"-V", "--version"}:
        sys.stdout.write(f"saccade {__version__}\n")
        return 0
    if arguments[0] not in COMMANDS:
        sys.stderr.write(f"saccade: no command {arguments[0]!r}\n\n{usage()}\n")
        return 2
    command = COMMANDS[arguments[0]]
    module_name, function_name = command.target.split(":")
    try:
        module = importlib.import_module(f"saccade.{module_name}")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] == "saccade":
            raise
        sys.stderr.write(
            f"saccade {arguments[0]} needs the package {missing.name!r}, which is not "
            f"installed; pip install 'saccade[{command.extra}]' brings it.\n"
        )
        return 3
    return int(getattr(module, function_name)(arguments[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
