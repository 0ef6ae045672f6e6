"""The Python SDK and the command-line clients. Never imports JAX.

`connect` is the asynchronous face; `clients.blocking.connect` the same without
asyncio, and `clients.http` the REST interface.
"""

from saccade.clients.connection import Stream, connect
from saccade.clients.errors import ClientError, StreamError
from saccade.clients.session import Bounds

__all__ = ["Bounds", "ClientError", "Stream", "StreamError", "connect"]
