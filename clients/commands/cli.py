"""The client's commands, as the table in `saccade.py` names them."""

from __future__ import annotations

from saccade.clients.commands import stream as streaming
from saccade.clients.commands.arguments import guarded


def stream(argv: list[str]) -> int:
    """Run `saccade stream`."""
    options = streaming.parser().parse_args(argv)
    return guarded("stream", lambda: streaming.execute(options))


def classify(argv: list[str]) -> int:
    """Run `saccade classify`."""

    def action() -> int:
        from saccade.clients.commands import classify

        return classify.execute(classify.parser().parse_args(argv))

    return guarded("classify", action)


def demo(argv: list[str]) -> int:
    """Run `saccade demo`."""

    def action() -> int:
        from saccade.clients.commands import demo as demonstration

        return demonstration.execute(demonstration.parser().parse_args(argv))

    return guarded("demo", action)
