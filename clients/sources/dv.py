"""Events from a DV network stream, which iniVation's package `dv_processing` reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from saccade.clients.errors import UnplayableSource
from saccade.clients.sources.source import Source
from saccade.clients.sources.udp import host_and_port
from saccade.model.events.sensor import Sensor
from saccade.model.events.types import as_events

POLL_S: Final = 0.002


def open_dv(text: str, sensor: Sensor | None) -> Source:
    """Connect to `tcp://HOST:PORT`, a server of DV's or of `dv.io.NetworkWriter`.

    Raises:
        UnplayableSource: `dv_processing` is not installed, nothing answers, or the
            stream is none of events.
    """
    host, port = host_and_port(text)
    try:
        import dv_processing as dv
    except ImportError as error:
        reason = "DV network streams need dv_processing: pip install 'saccade[dv]'"
        raise UnplayableSource(text, reason) from error
    try:
        reader = dv.io.NetworkReader(host, port)
    except RuntimeError as error:
        raise UnplayableSource(text, str(error)) from error
    if not reader.isEventStreamAvailable():
        raise UnplayableSource(text, "the stream there is none of events")
    width, height = reader.getEventResolution()
    return Source(
        name=text,
        sensor=sensor or Sensor(int(width), int(height)),
        chunks=_batches(reader),
        changes=True,
        live=True,
        when_full="drop-oldest",
    )


def _batches(reader: Any) -> Iterator[Any]:
    """Yield what arrives until the other side ends the stream."""
    while reader.isRunning():
        store = reader.getNextEventBatch()
        if store is None:
            time.sleep(POLL_S)
        else:
            yield as_events(store.numpy())
