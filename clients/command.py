"""What every command of the client shares."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final, get_args

from saccade.clients import arguments
from saccade.clients.errors import ClientError, RequestRefused, ServerUnreachable
from saccade.model.events.errors import EventsError
from saccade.model.events.types import Sensor
from saccade.server.protocol.messages import FitPolicy

DEFAULT_URL: Final = "ws://127.0.0.1:8000"
INTERRUPTED: Final = 130


def base_parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return a parser with the options that `stream` and `classify` share."""
    parser = argparse.ArgumentParser(
        prog=f"saccade {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--url",
        type=arguments.url,
        default=DEFAULT_URL,
        help="where the server is (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="which model to ask (default: the one for the source's sensor)",
    )
    parser.add_argument(
        "--sensor",
        metavar="WxH",
        type=arguments.sensor,
        help="geometry of a recording that does not tell its own, as 640x480",
    )
    parser.add_argument(
        "--clock-bits",
        metavar="N",
        type=arguments.clock_bits,
        help="a recording's timestamps wrap after 2^N µs (RAW and DAT tell it)",
    )
    parser.add_argument(
        "--fit",
        choices=get_args(FitPolicy),
        default="scale",
        help="what to do if the sensor is not the model's (default: %(default)s)",
    )
    return parser


def guarded(command: str, action: Callable[[], int]) -> int:
    """Run a command; say in one line what went wrong, if something did."""
    try:
        return action()
    except ServerUnreachable as error:
        say(command, f"{error}\nStart one with: saccade serve")
    except (ClientError, EventsError) as error:
        say(command, str(error))
    except ModuleNotFoundError as missing:
        say(
            command,
            f"this needs the package {missing.name!r}, which is not installed; "
            "pip install 'saccade[terminal]' brings it",
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    return 1


def say(command: str, text: str) -> None:
    """Tell the user something that is not the command's output."""
    sys.stderr.write(f"saccade {command}: {text}\n")


def choose_model(url: str, sensor: Sensor, tell: Callable[[str], None]) -> str:
    """Return the server's model for a sensor, or else its first; say which.

    Raises:
        ServerUnreachable: Nobody answers at `url`.
        RequestRefused: The server lists no model.
    """
    from saccade.clients import http

    models = http.models(url)
    if not models:
        raise RequestRefused(200, None, "the server serves no model")
    fitting = [model for model in models if model.sensor == sensor]
    chosen = (fitting or models)[0].name
    if len(models) > 1:
        names = ", ".join(model.name for model in models)
        tell(f"asking {chosen}; --model chooses of {names}")
    return chosen
