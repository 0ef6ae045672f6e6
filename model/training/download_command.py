"""`saccade download`: a task's data set, where its publisher lets a program have it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress as Bar,
    TaskID,
    TimeRemainingColumn,
)

from saccade.model.training.download import Progress, Publisher, fetch
from saccade.model.training.errors import TrainingError
from saccade.model.training.tasks import dvs_gesture, nmnist, spiking

FAILED: Final = 1
HEIDELBERG: Final = "https://zenkelab.org/datasets"

PUBLISHERS: Final = {
    "spiking-heidelberg-digits": Publisher(HEIDELBERG, ("shd_train.h5", "shd_test.h5")),
    "spiking-speech-commands": Publisher(
        HEIDELBERG, ("ssc_train.h5", "ssc_valid.h5", "ssc_test.h5")
    ),
}
BY_HAND: Final = {
    "nmnist": nmnist.INSTRUCTIONS,
    "dvs-gesture": dvs_gesture.INSTRUCTIONS,
}
LICENCE: Final = spiking.SOURCE


def download(argv: Sequence[str]) -> int:
    """Fetch a task's data set, check it by the publisher's sums, and unpack it."""
    arguments = parser().parse_args(argv)
    if arguments.task in BY_HAND:
        sys.stderr.write(
            f"saccade download: the publisher of {arguments.task} gives it to people "
            f"only.\n{BY_HAND[arguments.task]}\n"
        )
        return FAILED
    publisher = PUBLISHERS[arguments.task]
    if arguments.source:
        publisher = publisher._replace(url=arguments.source.rstrip("/"))
    try:
        with shown() as progress:
            fetched = fetch(publisher, arguments.out, progress)
    except (TrainingError, OSError) as error:
        sys.stderr.write(f"saccade download: {error}\n")
        return FAILED
    there = len(publisher.files) - len(fetched)
    sys.stdout.write(
        f"{LICENCE.format(arguments.task)}\n"
        f"{len(fetched)} files fetched and checked, {there} were there\n"
        f"saccade train task={arguments.task} data_dir={arguments.out}\n"
    )
    return 0


@contextmanager
def shown() -> Iterator[Progress]:
    """Show a bar on standard error for each archive."""
    columns = ("{task.description}", BarColumn(), DownloadColumn())
    tasks: dict[str, TaskID] = {}
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:

        def show(name: str, received: int, whole: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=whole)
            bar.update(tasks[name], completed=received)

        yield show


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    result = argparse.ArgumentParser(
        prog="saccade download", description=download.__doc__
    )
    result.add_argument(
        "task",
        choices=[*PUBLISHERS, *BY_HAND],
        metavar="TASK",
        help=", ".join([*PUBLISHERS, *BY_HAND]),
    )
    result.add_argument(
        "--out",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where the files go (default: data)",
    )
    result.add_argument(
        "--source",
        metavar="URL",
        help="another folder with the same files and their md5sums.txt",
    )
    return result
