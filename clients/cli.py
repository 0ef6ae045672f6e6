"""The client's commands, as the table in `saccade.py` names them."""

from __future__ import annotations

from saccade.clients import stream_command
from saccade.clients.command import guarded


def stream(argv: list[str]) -> int:
    """Run `saccade stream`."""
    options = stream_command.parser().parse_args(argv)
    return guarded("stream", lambda: stream_command.execute(options))


def classify(argv: list[str]) -> int:
    """Run `saccade classify`."""

    def action() -> int:
        from saccade.clients import classify_command

        return classify_command.execute(classify_command.parser().parse_args(argv))

    return guarded("classify", action)


def demo(argv: list[str]) -> int:
    """Run `saccade demo`."""

    def action() -> int:
        from saccade.clients import demo as demonstration

        return demonstration.execute(demonstration.parser().parse_args(argv))

    return guarded("demo", action)
