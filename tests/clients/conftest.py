from __future__ import annotations

import asyncio
import threading

import pytest

from tests.clients.scripted import scripted


@pytest.fixture
def served():
    """Return a function that serves scripts from a thread, for a blocking client."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    contexts = []

    def serve(*scripts):
        context = scripted(*scripts)
        contexts.append(context)
        opening = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop)
        return opening.result()

    yield serve
    for context in contexts:
        leaving = context.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leaving, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
