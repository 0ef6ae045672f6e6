"""A network that splits, delays, stalls and cuts what passes through it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class BadNetwork:
    """Forwards TCP to a server, byte for byte, but in no hurry and not for long."""

    def __init__(self, target: str, seed: int) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._dice = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.connections = 0
        self.url = ""

    def cut(self) -> None:
        """Break every connection at once, in the middle of whatever it carries."""
        for writer in self._writers:
            writer.transport.abort()

    async def stall(self, seconds: float) -> None:
        """Hold every byte back for a while."""
        self._flowing.clear()
        await asyncio.sleep(seconds)
        self._flowing.set()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers |= {writer, far_writer}
            ends = [self._carry(reader, far_writer), self._carry(far_reader, writer)]
            await asyncio.gather(*ends)
        writer.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(self._dice.choice([1, 7, 500, 1 << 14])):
                await self._flowing.wait()
                if self._dice.random() < 0.05:
                    await asyncio.sleep(self._dice.uniform(0, 0.01))
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def bad_network(target: str, seed: int = 0) -> AsyncIterator[BadNetwork]:
    """Put a bad network before a server."""
    network = BadNetwork(target, seed)
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    network.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield network
    finally:
        server.close()
        network.cut()
