"""The wire's messages as tables: one entry a field, with its range."""

from __future__ import annotations

from typing import Any, Final, get_args

from saccade.model.events.sensor import Sensor
from saccade.server.protocol.errors import InvalidField
from saccade.server.protocol.fields import (
    Record,
    array,
    binary,
    boolean,
    choice,
    fact,
    finite,
    integer,
    number,
    optional,
    sensor,
    text,
)
from saccade.server.protocol.messages import (
    Ack,
    Close,
    Closed,
    Encoding,
    ErrorMessage,
    EventsFrame,
    Every,
    FitPolicy,
    Flush,
    Flushed,
    GoAway,
    Open,
    Opened,
    ReadoutWindow,
    Report,
    Reset,
    Result,
    Results,
    WasReset,
    WhenFull,
    Window,
)

LARGEST_INTEGER: Final = 2**53
"""The largest that JavaScript holds exactly; the bound on ids, seqs and counts."""
LARGEST_TIME_US: Final = 2**62
CLOCK_BITS: Final = (16, 48)
"""The shortest and the longest clock that wraps, in bits of µs."""
LARGEST_CLASSES: Final = 65536
TEXT_CHARACTERS: Final = 200

count: Final = integer(0, LARGEST_INTEGER)
seq: Final = integer(1, LARGEST_INTEGER)
time_base_us: Final = integer(0, LARGEST_TIME_US)
time_us: Final = integer(0, 2 * LARGEST_TIME_US)
_name: Final = text(TEXT_CHARACTERS)
_long_text: Final = text(4096)
_logits: Final = array(finite, 1, LARGEST_CLASSES)
_labels: Final = array(_long_text, 1, LARGEST_CLASSES)

_report: Final = Record(
    Report,
    {"every": choice(*get_args(Every)), "n": integer(1, 2**31)},
    omitted=("n",),
)
_readout: Final = Record(
    ReadoutWindow,
    {"window": choice(*get_args(Window)), "half_life_ms": number(1e-3, 1e12)},
    omitted=("half_life_ms",),
)


def _read_report(value: Any, field: str) -> Report:
    report = _report.nested(value, field)
    if (report.n is None) == (report.every in {"events", "ms"}):
        wanted = "is missing" if report.n is None else "goes with events and ms only"
        raise InvalidField(f"{field}.n", wanted, report.n)
    return report


def _read_readout(value: Any, field: str) -> ReadoutWindow:
    readout = _readout.nested(value, field)
    half_life_ms = readout.half_life_ms
    if (half_life_ms is None) == (readout.window == "half_life"):
        wanted = "is missing" if half_life_ms is None else "goes with half_life only"
        raise InvalidField(f"{field}.half_life_ms", wanted, half_life_ms)
    return readout


_scores: Final = {
    "seq": count,
    "ticks": count,
    "events": count,
    "pending": count,
    "t_us": optional(time_us),
    "logits": optional(_logits),
    "label": optional(_long_text),
    "confidence": optional(number(0.0, 1.0)),
    "dropped": count,
}

CLIENT_RECORDS: Final[dict[str, Record[Any]]] = {
    "open": Record(
        Open,
        {
            "protocol": integer(1, LARGEST_INTEGER),
            "model": _name,
            "sensor": sensor,
            "fit": choice(*get_args(FitPolicy)),
            "encoding": choice(*get_args(Encoding)),
            "report": _read_report,
            "readout": _read_readout,
            "clock_bits": integer(*CLOCK_BITS),
            "when_full": choice(*get_args(WhenFull)),
            "results": choice(*get_args(Results)),
            "resume": _name,
        },
        omitted=("sensor", "clock_bits", "when_full", "results", "resume"),
        write={
            "sensor": Sensor.to_list,
            "report": _report.write,
            "readout": _readout.write,
        },
    ),
    "events": Record(
        EventsFrame,
        {"seq": seq, "t_base_us": time_base_us, "data": binary},
    ),
    "flush": Record(Flush, {"id": count}),
    "reset": Record(Reset, {"id": count}),
    "close": Record(Close, {}),
}

SERVER_RECORDS: Final[dict[str, Record[Any]]] = {
    "opened": Record(
        Opened,
        {
            "session": _name,
            "model": _name,
            "model_hash": _name,
            "labels": _labels,
            "sensor": sensor,
            "tick_events": count,
            "window_events": count,
            "window_bytes": count,
            "max_frame_bytes": count,
            "resume": optional(_name),
            "resume_ttl_ms": count,
            "resumed": boolean,
            "seq": count,
        },
        write={"sensor": Sensor.to_list},
    ),
    "result": Record(
        Result,
        {
            "seq": count,
            "ticks": count,
            "events": count,
            "t_us": time_us,
            "logits": _logits,
            "label": _long_text,
            "confidence": number(0.0, 1.0),
            "dropped": count,
        },
        omitted=("dropped",),
    ),
    "ack": Record(
        Ack,
        {
            "seq": count,
            "events": count,
            "bytes": count,
            "durable_seq": count,
            "dropped": count,
        },
        omitted=("dropped",),
    ),
    "flushed": Record(Flushed, {"id": count, **_scores}, omitted=("dropped",)),
    "reset": Record(WasReset, {"id": count}),
    "closed": Record(Closed, _scores, omitted=("dropped",)),
    "error": Record(
        ErrorMessage,
        {
            "code": _name,
            "message": _long_text,
            "fatal": boolean,
            "seq": count,
            "field": _long_text,
            "index": count,
            "value": fact,
        },
        omitted=("seq", "field", "index", "value"),
    ),
    "goaway": Record(GoAway, {"reason": _long_text, "reconnect_after_ms": count}),
}
