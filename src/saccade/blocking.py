"""The SDK without asyncio: `connect` opens a stream whose calls wait for the server."""

from saccade.clients.blocking import Stream, connect

__all__ = ["Stream", "connect"]
