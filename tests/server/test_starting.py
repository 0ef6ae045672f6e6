"""A start: the port comes first, and whoever connects meanwhile gets an answer."""

from __future__ import annotations

import asyncio
import io
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from saccade.server.engine import compiled_folder
from saccade.server.engine.compiled_folder import usable_folder
from saccade.server.engine.native_code import NativeCompiler
from saccade.server.listening import CannotListen, listen
from saccade.server.progress import ERASE_LINE, ProgressLine
from saccade.server.serving import configuration
from saccade.server.settings import Settings
from saccade.server.starting import LOADING, Starting

WITHOUT_JAX = """
import sys
sys.modules["jax"] = sys.modules["numba"] = None  # as if they could not be imported
from saccade.server.cli import serve
sys.exit(serve(["--port", sys.argv[1]]))
"""


@asynccontextmanager
async def served(front: Starting) -> AsyncIterator[str]:
    sockets = listen("127.0.0.1", 0)
    server = uvicorn.Server(configuration(front, Settings()))
    serving = asyncio.create_task(server.serve(sockets))
    try:
        yield f"127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def test_a_server_that_loads_is_well_but_not_ready_and_refuses_the_rest() -> None:
    front = Starting()
    async with served(front) as address, httpx.AsyncClient() as client:
        health = await client.get(f"http://{address}/healthz")
        ready = await client.get(f"http://{address}/readyz")
        models = await client.get(f"http://{address}/v1/models")
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{address}/v1/stream")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert (ready.status_code, ready.json()["reason"]) == (503, LOADING)
    assert (models.status_code, models.json()["code"]) == (503, "not_ready")
    assert models.headers["content-type"] == "application/problem+json"
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"] == "1"


async def test_a_loaded_application_takes_over() -> None:
    front = Starting()

    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204})  # type: ignore[operator]
        await send({"type": "http.response.body"})  # type: ignore[operator]

    async with served(front) as address, httpx.AsyncClient() as client:
        assert (await client.get(f"http://{address}/readyz")).status_code == 503
        front.app = app  # type: ignore[assignment]
        assert (await client.get(f"http://{address}/readyz")).status_code == 204


def test_a_taken_port_is_refused_before_jax_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [sys.executable, "-c", WITHOUT_JAX, port]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        f"saccade serve: cannot listen on port {port} of 127.0.0.1: another program "
        "listens there; --port takes another port\n"
    )


def test_where_compiled_code_is_kept_is_set_before_numba_reads_it() -> None:
    program = "import sys, saccade.server.cli; print('numba' in sys.modules)"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"


def test_every_address_of_a_name_has_the_same_port() -> None:
    sockets = listen("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert len({one.getsockname()[0] for one in sockets}) == len(sockets)
    finally:
        for one in sockets:
            one.close()


def test_another_machines_address_is_refused() -> None:
    with pytest.raises(CannotListen, match="no such address"):
        listen("192.0.2.1", 0)
    with pytest.raises(CannotListen, match=r"port 80 of nowhere.invalid"):
        listen("nowhere.invalid", 80)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal() -> None:
    stream = Terminal()
    with ProgressLine(stream) as line:
        line.show("compiling toy", "native code, 3 %")
        line.show("compiling toy", "native code, 3 %")
        line.show("compiling toy", "bucket 1x1")
    shown = stream.getvalue().split(ERASE_LINE)
    assert shown == [
        "",
        "compiling toy: native code, 3 %",
        "compiling toy: bucket 1x1",
        "",
    ]
    assert "\n" not in stream.getvalue()


def test_progress_is_a_line_for_each_stage_in_a_file() -> None:
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        line.show("loading")
        line.show("compiling toy", "native code, 3 %")
        line.show("compiling toy", "native code, 4 %")
    assert stream.getvalue() == "saccade serve: loading\nsaccade serve: compiling toy\n"


def test_a_folder_that_can_be_written_is_used_itself(tmp_path: Path) -> None:
    with usable_folder(tmp_path / "new") as folder:
        assert folder == tmp_path / "new"
    assert folder.is_dir()


def test_a_folder_that_cannot_be_written_is_copied_and_a_warning_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "kept").write_text("code")

    def refuse(dir: Path) -> None:  # what a test that runs as root could not provoke
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(compiled_folder.tempfile, "TemporaryFile", refuse)
    with usable_folder(tmp_path) as folder:
        assert folder != tmp_path
        assert (folder / "native" / "kept").read_text() == "code"
    assert not folder.exists()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Read-only file system" in caplog.text


def test_where_there_can_be_no_folder_the_code_goes_to_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with usable_folder(tmp_path / "file" / "folder") as folder:
        (folder / "code").touch()
    assert not folder.exists()


def test_the_process_that_compiles_ends_with_the_one_that_started_it(
    tmp_path: Path,
) -> None:
    with NativeCompiler.start(tmp_path) as compiler:
        assert compiler._process.stdin is not None
        compiler._process.stdin.close()  # as its end would
        assert compiler._process.wait() == 1


def test_a_stop_ends_the_wait_for_native_code(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def progress(text: str) -> None:
        raise Stopped

    with NativeCompiler.start(tmp_path) as compiler, pytest.raises(Stopped):
        compiler.wait(progress)
    assert compiler._process.poll() is not None
