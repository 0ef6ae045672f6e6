"""Entry points of `saccade stream`, `classify`, `inspect`, `demo` and `bench`."""

from __future__ import annotations

from saccade.clients.commands import stream as streaming
from saccade.clients.commands.arguments import run_command


def stream(argv: list[str]) -> int:
    """Run `saccade stream`."""
    options = streaming.parser().parse_args(argv)
    return run_command("stream", lambda: streaming.execute(options))


def classify(argv: list[str]) -> int:
    """Run `saccade classify`."""

    def action() -> int:
        from saccade.clients.commands import classify

        return classify.execute(classify.parser().parse_args(argv))

    return run_command("classify", action)


def inspect(argv: list[str]) -> int:
    """Run `saccade inspect`."""

    def action() -> int:
        from saccade.clients.commands import inspect

        return inspect.execute(inspect.parser().parse_args(argv))

    return run_command("inspect", action)


def demo(argv: list[str]) -> int:
    """Run `saccade demo`."""

    def action() -> int:
        from saccade.clients.commands import demo as demonstration

        return demonstration.execute(demonstration.parser().parse_args(argv))

    return run_command("demo", action)


def bench(argv: list[str]) -> int:
    """Run `saccade bench`."""

    def action() -> int:
        from saccade.clients.commands import bench as benchmark

        return benchmark.execute(benchmark.parser().parse_args(argv))

    return run_command("bench", action)
