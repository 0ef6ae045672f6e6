"""Benchmark of whole recordings over REST: many in one request, and one by one.

    python -m benchmarks.rest [--folder FOLDER] [--recordings N] [--rounds N] [--quick]
        [--json PATH]

A real server of the model `nmnist` scores the same recordings in one request, and each
in a request of its own on one kept connection, one after the other. A round measures
both in every form of body, in turn, and the answers must be equal to the last bit.
The recordings are the `.bin` files of N-MNIST in FOLDER, or noise of their lengths. The
time that the engine takes for so many events without a server says how much faster a
request of all could be at best.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Shape
from benchmarks.comparison import end_comparison
from benchmarks.processes import thread_times_s
from benchmarks.serve_cases import EngineRate, checkpoint_of, loaded
from saccade.clients.benchmark.machine import machine
from saccade.clients.commands.server_process import ServerProcess
from saccade.clients.http import classify
from saccade.model.events.encodings.packed import pack
from saccade.model.events.recordings import open_recording
from saccade.model.events.types import EVENT_DTYPE, Events

MODEL: Final = "nmnist"
RECORDINGS: Final = 100
ROUNDS: Final = 7
QUICK_ROUNDS: Final = 2
SIDE: Final = 34
EVENTS: Final = (1112, 7152)
"""The shortest and the longest of N-MNIST's recordings."""
SAMPLE_US: Final = 300_000
BOUNDARY: Final = "a-boundary-of-the-benchmark"
SHAPES: Final = (Shape(1, 16), Shape(8, 4), Shape(64, 1))
"""Calls of the engine, of which the fastest says what the device alone would take."""
SLICE_S: Final = 0.2


class Request(NamedTuple):
    """A request that scores some recordings."""

    path: str
    headers: dict[str, str]
    body: bytes


Form: TypeAlias = Callable[[Sequence[Events]], Request]


def as_columns(recordings: Sequence[Events]) -> Request:
    """Write recordings as JSON, each with four columns."""
    each = [{name: one[name].tolist() for name in "txyp"} for one in recordings]
    return _as_json("/v1/classify", {"model": MODEL, "recordings": each})


def as_base64(recordings: Sequence[Events]) -> Request:
    """Write recordings as JSON, each as packed records."""
    each = [{"data": base64.b64encode(pack(one, 0)).decode()} for one in recordings]
    return _as_json("/v1/classify", {"model": MODEL, "recordings": each})


def as_msgpack(recordings: Sequence[Events]) -> Request:
    """Write recordings as msgpack, each as packed records."""
    each = [{"data": pack(one, 0)} for one in recordings]
    body = msgpack.packb({"model": MODEL, "recordings": each})
    return Request("/v1/classify", {"Content-Type": "application/msgpack"}, body)


def as_files(recordings: Sequence[Events]) -> Request:
    """Write recordings as a form of N-MNIST's files."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"model"\r\n\r\n{MODEL}\r\n'.encode()]
    for number, one in enumerate(recordings):
        begin = f'{head}"recordings"; filename="{number}.bin"\r\n\r\n'
        parts += [begin.encode(), nmnist_bytes(one), b"\r\n"]
    body = b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return Request("/v1/classify", {"Content-Type": kind}, body)


def as_tensors(recordings: Sequence[Events]) -> Request:
    """Write recordings as raw tensors of KServe's protocol."""
    columns = [np.concatenate([one[name] for one in recordings]) for name in "txyp"]
    rows = np.stack([column.astype("<i8") for column in columns], axis=1)
    offsets = np.cumsum([0, *map(len, recordings)]).astype("<i8")
    inputs = [_raw("events", rows), _raw("offsets", offsets)]
    head = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": f"{len(text)}"}
    body = text + rows.tobytes() + offsets.tobytes()
    return Request(f"/v2/models/{MODEL}/infer", headers, body)


FORMS: Final[dict[str, Form]] = {
    "JSON, columns": as_columns,
    "JSON, packed records": as_base64,
    "msgpack, packed records": as_msgpack,
    "multipart, .bin files": as_files,
    "KServe, raw tensors": as_tensors,
}


SDK: Final = "saccade.classify"
"""Packed records in msgpack, too; but each call makes a connection of its own."""

Call: TypeAlias = Callable[[], list[Any]]
"""Has recordings scored, and returns what the answers say of each."""


class Side(NamedTuple):
    """One way to have all recordings scored: its time, and the server's CPU time, s."""

    wall_s: float
    cpu_s: float


class Row(NamedTuple):
    """A form's medians over the rounds; `ratio` is that of each round's two sides."""

    form: str
    alone: Side
    together: Side
    ratio: float
    least: float
    most: float


class Client:
    """A client with one kept connection to a server.

    Args:
        server: The server, which is ready.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._url = server.url
        address = server.url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(address)

    def calls(self, recordings: Sequence[Events]) -> dict[str, Call]:
        """Return, for each form, what has recordings scored in one request."""
        found: dict[str, Call] = {
            name: partial(self._send, form(recordings)) for name, form in FORMS.items()
        }
        return found | {SDK: partial(self._ask, recordings)}

    def renew(self) -> None:
        """Close the connection, which the next request opens again.

        A server closes one that is idle for some seconds.
        """
        self._connection.close()

    def _ask(self, recordings: Sequence[Events]) -> list[Any]:
        return list(classify(self._url, MODEL, recordings))

    def _send(self, request: Request) -> list[Any]:
        self._connection.request("POST", request.path, request.body, request.headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {content[:200]!r}")
        length = response.headers.get("Inference-Header-Content-Length")
        return results_of(content, length)


def results_of(content: bytes, head_length: str | None) -> list[Any]:
    """Return what an answer says of each recording, to compare it by."""
    if head_length is None:
        named = ("label", "confidence", "logits", "events", "pending")
        results = json.loads(content)["results"]
        return [[each[name] for name in named] for each in results]
    head, raw = json.loads(content[: int(head_length)]), content[int(head_length) :]
    for tensor in head["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        if tensor["name"] == "logits":
            return [*np.frombuffer(raw[:size], "<f4").reshape(tensor["shape"]).tolist()]
        raw = raw[size:]
    raise RuntimeError("the answer has no logits")


def measure(
    server: ServerProcess,
    recordings: Sequence[Events],
    rounds: int,
    rates: Sequence[EngineRate],
) -> list[Row]:
    """Time every form in both ways, and the engine alone, in turn.

    Raises:
        RuntimeError: A request is refused, or the answers of the two ways differ.
    """
    client = Client(server)
    alone = [client.calls([one]) for one in recordings]
    together = client.calls(recordings)
    sides: dict[str, list[tuple[Side, Side]]] = {name: [] for name in together}
    for number in range(rounds + 1):
        for rate in rates:
            rate.run(SLICE_S)
        for name, call in together.items():
            client.renew()
            each, results = timed(server.pid, [calls[name] for calls in alone])
            client.renew()
            batch, same = timed(server.pid, [call])
            if results != same:
                raise RuntimeError(f"{name}: the answers of the two ways differ")
            if number:  # the first warms up
                sides[name].append((each, batch))
    return [_row(name, pairs) for name, pairs in sides.items()]


def timed(server: int, calls: Sequence[Call]) -> tuple[Side, list[Any]]:
    """Make calls one after the other; return the time, and their results.

    Args:
        server: The id of the server's process.
        calls: The calls.
    """
    before_s, begin_s = cpu_s(server), time.perf_counter()
    answers = [call() for call in calls]
    wall_s = time.perf_counter() - begin_s
    side = Side(wall_s, cpu_s(server) - before_s)
    return side, [one for each in answers for one in each]


def cpu_s(server: int) -> float:
    """Return the CPU time of a process and its children so far, s."""
    return sum(thread_times_s(server).values())


def _row(name: str, pairs: Sequence[tuple[Side, Side]]) -> Row:
    each, batch = (
        Side(*map(statistics.median, zip(*sides, strict=True)))
        for sides in zip(*pairs, strict=True)
    )
    ratios = [one.wall_s / other.wall_s for one, other in pairs]
    return Row(name, each, batch, statistics.median(ratios), min(ratios), max(ratios))


def nmnist_bytes(events: Events) -> bytes:
    """Write events as N-MNIST's files do: five bytes each."""
    wide = events["t"].astype(np.uint32)
    columns = [events["x"], events["y"], events["p"] << 7 | wide >> 16, wide >> 8, wide]
    return np.stack([c.astype(np.uint8) for c in columns], axis=1).tobytes()


def read_folder(folder: Path, count: int) -> list[Events]:
    """Read the first recordings below a folder."""
    paths = sorted(folder.rglob("*.bin"))[:count]
    return [np.concatenate([*open_recording(path).events]) for path in paths]


def noise(count: int) -> list[Events]:
    """Return recordings of noise that have the lengths of N-MNIST's."""
    rng = np.random.default_rng(0)
    recordings = []
    for size in np.linspace(*EVENTS, count).astype(int):
        events = np.empty(size, EVENT_DTYPE)
        t_us = np.sort(rng.integers(0, SAMPLE_US, size))
        events["t"] = t_us - t_us[0]
        events["x"], events["y"] = rng.integers(0, SIDE, (2, size))
        events["p"] = rng.integers(0, 2, size)
        recordings.append(events)
    return [recordings[at] for at in rng.permutation(count)]


def _as_json(path: str, body: dict[str, Any]) -> Request:
    headers = {"Content-Type": "application/json"}
    return Request(path, headers, json.dumps(body).encode())


def _raw(name: str, values: Any) -> dict[str, Any]:
    shape, size = [*values.shape], {"binary_data_size": values.nbytes}
    return {"name": name, "datatype": "INT64", "shape": shape, "parameters": size}


def table(rows: Sequence[Row], bound_s: float) -> Table:
    """Return the rows as a table, in ms."""
    shown = Table("", title=f"the engine alone: {1e3 * bound_s:.0f} ms")
    for heading in ("one by one", "in one", "ratio", "server's CPU", "in one"):
        shown.add_column(heading, justify="right")
    for row in rows:
        sides = row.alone, row.together
        walls = [f"{1e3 * side.wall_s:.0f}" for side in sides]
        spent = [f"{1e3 * side.cpu_s:.0f}" for side in sides]
        ratio = f"{row.ratio:.2f} ({row.least:.2f}–{row.most:.2f})"
        shown.add_row(row.form, *walls, ratio, *spent)
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rest")
    parser.add_argument("--folder", type=Path, help="of N-MNIST's recordings")
    parser.add_argument("--recordings", type=int, default=RECORDINGS, metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    given = parser.parse_args(argv)
    count = given.recordings
    recordings = read_folder(given.folder, count) if given.folder else noise(count)
    folder = checkpoint_of(MODEL)
    rates = [EngineRate(loaded(folder).model, shape) for shape in SHAPES]
    with ServerProcess(["--model", str(folder)]) as server:
        server.wait_until_ready(lambda _: None)
        end_comparison(server.pid)
        rounds = QUICK_ROUNDS if given.quick else given.rounds
        rows = measure(server, recordings, rounds, rates)
    events = sum(map(len, recordings))
    device_s = events / max(rate.events_per_s for rate in rates)
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows, device_s))
    if given.json:
        content = {
            "machine": machine(),
            "recordings": len(recordings),
            "events": events,
            "device_s": device_s,
            "rows": [plain(row) for row in rows],
        }
        given.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def plain(row: Row) -> dict[str, Any]:
    """Return a row as JSON values."""
    alone, together = row.alone._asdict(), row.together._asdict()
    return row._asdict() | {"alone": alone, "together": together}


if __name__ == "__main__":
    sys.exit(main())
