"""The blocking Python SDK: the names of `connection`, for code without asyncio.

    with connect("ws://127.0.0.1:8000", model="nmnist") as stream:
        stream.send(events)
        print(stream.flush().label)

The connection lives on an event loop in a thread of its own, so results
arrive, and the connection is kept alive, while the caller is busy elsewhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Self, TypeVar, Unpack

from saccade.clients import connection
from saccade.clients.connection import Choices
from saccade.clients.errors import StreamClosed
from saccade.clients.reconnecting import DEFAULT_RECONNECTING, Reconnecting
from saccade.clients.session import DEFAULT_BOUNDS, Bounds, SessionView
from saccade.server.protocol.messages import Closed, Flushed, Result

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread, to run coroutines on from any other thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ending = False
        self._lock = threading.Lock()
        """Held while a coroutine is submitted: none comes after the loop's end."""
        self._thread = threading.Thread(
            target=self._run, name="saccade-client", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._ending = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; an interrupt of the caller cancels it.

        Raises:
            StreamClosed: The thread has ended, or ends meanwhile.
        """
        with self._lock:
            if self._ending:
                coroutine.close()
                raise StreamClosed
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise StreamClosed from None
        except BaseException:
            future.cancel()
            raise

    def _run(self) -> None:
        self._loop.run_forever()
        unfinished = asyncio.all_tasks(self._loop)
        for task in unfinished:
            task.cancel()
        if unfinished:
            self._loop.run_until_complete(asyncio.wait(unfinished))


class Stream(SessionView):
    """An open session: send events, receive scores.

    Each method waits until it is done, and raises what the method of the same name of
    `connection.Stream` raises.
    """

    def __init__(self, stream: connection.Stream, thread: LoopThread) -> None:
        self._session = stream._session
        self._stream = stream
        self._thread = thread

    def send(self, events: Any) -> None:
        """Send events, waiting while the server's window is full."""
        self._thread.run(self._stream.send(events))

    def send_raw(self, data: bytes) -> None:
        """Forward a camera's own bytes to a stream opened in its encoding."""
        self._thread.run(self._stream.send_raw(data))

    def flush(self) -> Flushed:
        """Wait until everything sent is scored, and return the scores then."""
        return self._thread.run(self._stream.flush())

    def reset(self) -> None:
        """Begin anew: no event so far counts, and time may start anywhere."""
        self._thread.run(self._stream.reset())

    def close(self) -> Closed:
        """End the session and return the final scores."""
        return self._thread.run(self._stream.close())

    def received(self) -> list[Result]:
        """Return the results that have come, without waiting for more."""
        return self._thread.run(_received(self._stream))

    def __iter__(self) -> Iterator[Result]:
        return self

    def __next__(self) -> Result:
        try:
            result = self._thread.run(_next(self._stream))
        except StreamClosed:
            result = None  # the `with` block has ended in another thread
        if result is None:
            raise StopIteration
        return result


async def _next(stream: connection.Stream) -> Result | None:
    return await anext(stream, None)


async def _received(stream: connection.Stream) -> list[Result]:
    return stream.received()


@contextmanager
def connect(
    url: str,
    *,
    model: str,
    bounds: Bounds = DEFAULT_BOUNDS,
    reconnecting: Reconnecting = DEFAULT_RECONNECTING,
    key: str | None = None,
    wait_for_server_s: float | None = None,
    **choices: Unpack[Choices],
) -> Iterator[Stream]:
    """Open a session, and close it on leaving the context.

    Takes and raises what `connection.connect` does.
    """
    opening = connection.open_stream(
        url,
        model=model,
        bounds=bounds,
        reconnecting=reconnecting,
        key=key,
        wait_for_server_s=wait_for_server_s,
        **choices,
    )
    with LoopThread() as thread:
        stream = thread.run(opening)
        try:
            yield Stream(stream, thread)
        except BaseException:
            thread.run(stream.abort())
            raise
        thread.run(stream.finish())
