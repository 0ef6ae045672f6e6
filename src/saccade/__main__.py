"""The `saccade` command: a table of sub-commands, each imported when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Final

from saccade import __version__

COMMANDS: Final = {
    "serve": ("saccade.server.cli:serve", "run the inference server"),
    "stream": (
        "saccade.clients.commands.cli:stream",
        "stream a recording or a simulated camera",
    ),
    "classify": (
        "saccade.clients.commands.cli:classify",
        "classify recordings through REST",
    ),
    "key": ("saccade.server.cli:key", "make an API key"),
    "demo": (
        "saccade.clients.commands.cli:demo",
        "see it all: a server, a stream, a batch, metrics",
    ),
    "train": ("saccade.model.training.cli:train", "train a model"),
    "evaluate": (
        "saccade.model.training.cli:evaluate",
        "measure a checkpoint's accuracy",
    ),
    "download": (
        "saccade.model.training.download:download",
        "fetch a task's data set and check it",
    ),
    "export": (
        "saccade.model.training.export:export",
        "make a run's best checkpoint one to serve, with a model card",
    ),
    "import-upstream": (
        "saccade.model.upstream.cli:import_upstream",
        "make a servable checkpoint of the paper's authors' own",
    ),
}


def usage() -> str:
    """Return the list of sub-commands, one a line."""
    rows = [f"  saccade {name:<16} {text}" for name, (_, text) in COMMANDS.items()]
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
    module_name, function_name = COMMANDS[arguments[0]][0].split(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] == "saccade":
            raise
        return _explain_missing(arguments[0], missing.name)
    return int(getattr(module, function_name)(arguments[1:]) or 0)


def _explain_missing(command: str, package: str | None) -> int:
    extras = {
        "serve": "server",
        "key": "server",
        "train": "train",
        "evaluate": "train",
        "download": "train",
        "export": "train",
        "import-upstream": "model",
    }
    extra = extras.get(command, "terminal")
    sys.stderr.write(
        f"saccade {command} needs the package {package!r}, which is not installed; "
        f"pip install 'saccade[{extra}]' brings it.\n"
    )
    return 3


if __name__ == "__main__":
    sys.exit(main())
