"""The command `saccade demo`: show a server, a live stream, a batch and metrics."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from textwrap import indent
from typing import Final

from rich.console import Console
from rich.text import Text

from saccade.clients import http
from saccade.clients.commands import arguments
from saccade.clients.commands.arguments import choose_model
from saccade.clients.commands.classify import Loaded, load
from saccade.clients.commands.playback import Playback, run
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.commands.stream import default_readout
from saccade.clients.connection import Choices
from saccade.clients.display.live import ACCENT, QUIET, LiveView
from saccade.clients.display.plain import PlainView
from saccade.clients.display.text import (
    answer_table,
    brief,
    throughput_table,
    truth_table,
)
from saccade.clients.errors import ClientError, ServerFailed
from saccade.clients.pacing import by_time, play
from saccade.clients.sources import MOTIONS_MODEL, Source, open_source
from saccade.model.events.errors import EventsError
from saccade.model.events.simulator.camera import DEFAULT_SENSOR, simulate
from saccade.model.events.simulator.scenes import MOTIONS

SCENE_US: Final = 500_000
FRAME_US: Final = 10_000
POLL_S: Final = 0.2

DESCRIPTION: Final = """\
Start a server, stream a simulated camera (or a recording) through its websocket,
classify a batch through REST, show the server's metrics, and stop it again. With
--open the server and its web page stay until Ctrl-C.
"""


INVITATION: Final = (
    "The page that shows it live: `make demo OPEN=1`, or `saccade serve` and then "
    "http://127.0.0.1:8000/"
)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        prog="saccade demo",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", help="a recording to stream instead"
    )
    parser.add_argument("--model", help="the model for SOURCE (default: the first)")
    arguments.add_recording_options(parser)
    parser.add_argument(
        "--seconds",
        type=arguments.count,
        default=12,
        metavar="N",
        help="how long the simulated camera films (default: %(default)s)",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="keep the server running in the end, for its web page",
    )
    parser.add_argument(
        "--seed", type=int, help="makes the simulated scenes the same again"
    )
    return parser


def execute(options: argparse.Namespace) -> int:
    """Run the command; the server is stopped even where a step fails."""
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    name = options.source or f"sim:motions?seed={seed}&seconds={options.seconds}"
    opened = partial(open_source, name, options.sensor, options.clock_bits)
    source = opened()
    steps = Steps(Console(highlight=False))
    with _stoppable(), ServerProcess() as server:
        try:
            steps.start(server)
            model = options.model or source.model
            model = model or choose_model(server.url, source.sensor, steps.write)
            steps.stream(server.url, model, source)
            if options.source:
                steps.classify_file(server.url, model, load(name, opened()))
            steps.classify_scenes(server.url, seed)
            steps.measure(server.url)
            if options.open:
                steps.keep(server)
            steps.stop(server)
            if not options.open:
                steps.write(INVITATION)
        except ServerFailed:
            raise
        except (ClientError, EventsError) as error:
            raise ServerFailed(str(error), server.log()) from error
    return 0


class Steps:
    """The steps of the demonstration, each with a heading and its output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0

    def start(self, server: ServerProcess) -> None:
        """Wait for the server to be ready."""
        self._announce("Starting a server: saccade serve")
        began_s = time.monotonic()
        with self._console.status("", spinner_style=ACCENT) as status:
            server.wait_until_ready(lambda text: status.update(Text(text, QUIET)))
        seconds = time.monotonic() - began_s
        served = ", ".join(model.name for model in http.models(server.url))
        self.write(f"ready in {seconds:.1f} s at {server.url}, serving {served}")

    def stream(self, url: str, model: str, source: Source) -> None:
        """Stream the source through the websocket."""
        self._announce(f"Streaming {source.name} through the websocket")
        frames = play(by_time(source.chunks, FRAME_US), speed=1.0)
        playback = Playback(url, model, source, frames)
        readout = default_readout(source)
        choices = Choices(sensor=source.sensor, fit="scale", readout=readout)
        console = self._console
        view = LiveView(console) if console.is_terminal else PlainView(sys.stdout)
        summary = asyncio.run(run(playback, view, choices, self.write))
        view.finish(summary)
        if summary.interrupted:
            raise KeyboardInterrupt

    def classify_scenes(self, url: str, seed: int) -> None:
        """Simulate each motion anew, and classify the scenes in one request."""
        self._announce(f"Classifying {len(MOTIONS)} fresh scenes in one REST request")
        scenes = [
            simulate(motion, seed=seed + 1 + number, duration_us=SCENE_US)
            for number, motion in enumerate(MOTIONS)
        ]
        began_s = time.monotonic()
        answers = http.classify(url, MOTIONS_MODEL, scenes, sensor=DEFAULT_SENSOR)
        seconds = time.monotonic() - began_s
        self.write(truth_table(list(zip(MOTIONS, answers, strict=True))))
        events = sum(scene.size for scene in scenes)
        self.write(f"{brief(events)} events in {seconds:.2f} s")

    def classify_file(self, url: str, model: str, file: Loaded) -> None:
        """Classify the recording in one request."""
        self._announce("Classifying the recording through REST")
        (answer,) = http.classify(
            url, model, [file.events], sensor=file.sensor, fit="scale"
        )
        self.write(answer_table([(file.name, answer)]))

    def measure(self, url: str) -> None:
        """Show the throughput that the server has measured."""
        self._announce("Throughput, from /metrics")
        self.write(throughput_table(http.metrics(url)))

    def keep(self, server: ServerProcess) -> None:
        """Leave the server running until an interrupt.

        Raises:
            ServerFailed: The server has ended by itself.
        """
        self._announce("Leaving the server running, for its page")
        self.write(f"open {server.url}/ in a browser; Ctrl-C stops the server")
        with suppress(KeyboardInterrupt):
            while server.running:
                time.sleep(POLL_S)
            raise ServerFailed("the server has ended", server.log())

    def stop(self, server: ServerProcess) -> None:
        """Stop the server."""
        self._announce("Stopping the server")
        status = server.stop()
        if status:
            reason = f"the server stopped with status {status}"
            raise ServerFailed(reason, server.log())
        self.write("stopped; nothing is left running")

    def _announce(self, text: str) -> None:
        self._step += 1
        heading = Text(f"{self._step}  ", ACCENT) + Text(text, "bold")
        self._console.print(Text("\n") + heading)

    def write(self, text: str) -> None:
        """Write a text under the present step's heading."""
        self._console.print(Text(indent(text.rstrip(), "   ")), soft_wrap=True)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Handle SIGTERM as an interrupt, so that the server is stopped."""

    def interrupt(number: int, frame: object) -> None:
        # A shell that starts the command with `&` lets it ignore SIGINT.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
