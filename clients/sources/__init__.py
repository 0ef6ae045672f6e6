"""Sources of events to stream: recordings, simulated cameras, and what arrives live."""

from saccade.clients.sources.forwarded import open_raw_words
from saccade.clients.sources.live import is_live, open_live
from saccade.clients.sources.recorded import open_source
from saccade.clients.sources.simulated import MOTIONS_MODEL, SIMULATED
from saccade.clients.sources.source import Source, Timeline

__all__ = [
    "MOTIONS_MODEL",
    "SIMULATED",
    "Source",
    "Timeline",
    "is_live",
    "open_live",
    "open_raw_words",
    "open_source",
]
