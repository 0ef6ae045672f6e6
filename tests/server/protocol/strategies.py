"""Hypothesis strategies for every message of the wire."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from saccade.model.events.sensor import Sensor
from saccade.server.protocol.codec import Wire, encode_client
from saccade.server.protocol.messages import (
    Ack,
    ClientMessage,
    Close,
    Closed,
    ErrorMessage,
    EventsFrame,
    Flush,
    Flushed,
    GoAway,
    Open,
    Opened,
    ReadoutWindow,
    Report,
    Reset,
    Result,
    WasReset,
)


def encoded(message: ClientMessage, *, text: bool = False) -> Wire:
    """Encode a message inside a strategy.

    The run-time type checker that the tests install draws random numbers, which
    Hypothesis forbids there: their state is put back.
    """
    state = random.getstate()
    try:
        return encode_client(message, text=text)
    finally:
        random.setstate(state)


counts = st.integers(0, 2**53)
seqs = st.integers(1, 2**53)
times_us = st.integers(0, 2**62)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
finite = st.floats(allow_nan=False, allow_infinity=False)
logits = st.lists(finite, min_size=1, max_size=12)
confidences = st.floats(0.0, 1.0)
sensors = st.builds(
    Sensor, st.integers(1, 65536), st.integers(1, 65536), st.integers(1, 2)
)
reports = st.one_of(
    st.builds(Report, st.sampled_from(["tick", "change", "flush"])),
    st.builds(Report, st.sampled_from(["events", "ms"]), st.integers(1, 2**31)),
)
readouts = st.one_of(
    st.just(ReadoutWindow()),
    st.builds(ReadoutWindow, st.just("half_life"), st.floats(1e-3, 1e12)),
)
opens = st.builds(
    Open,
    model=texts,
    sensor=st.none() | sensors,
    fit=st.sampled_from(["reject", "scale", "crop"]),
    encoding=st.sampled_from(["packed", "evt2", "evt21", "evt3"]),
    report=reports,
    readout=readouts,
    clock_bits=st.none() | st.integers(16, 48),
    when_full=st.sampled_from(["block", "drop-oldest"]),
    results=st.sampled_from(["all", "latest"]),
    max_lag_ms=st.none() | st.integers(1, 2**16),
    resume=st.none() | texts,
)
frames = st.builds(EventsFrame, seqs, st.binary(max_size=300), t_base_us=times_us)
client_messages = st.one_of(
    opens,
    frames,
    st.builds(Flush, counts),
    st.builds(Reset, counts),
    st.just(Close()),
)

_scores = st.one_of(
    st.fixed_dictionaries({"pending": counts}),
    st.fixed_dictionaries(
        {
            "pending": counts,
            "t_us": times_us,
            "logits": logits,
            "label": texts,
            "confidence": confidences,
        }
    ),
)


@st.composite
def _with_scores(draw, kind, **more):
    scores = draw(_scores)
    given = {name: draw(values) for name, values in more.items()}
    given["dropped"] = draw(st.none() | counts)
    return kind(seq=draw(counts), ticks=1, events=draw(counts), **given, **scores)


results = st.builds(
    Result,
    *(counts, counts, counts, times_us, logits, texts, confidences),
    dropped=st.none() | counts,
    superseded=counts,
)
server_messages = st.one_of(
    st.builds(
        Opened,
        session=texts,
        model=texts,
        model_hash=texts,
        labels=st.lists(texts, min_size=1, max_size=12),
        sensor=sensors,
        tick_events=counts,
        window_events=counts,
        window_bytes=counts,
        max_frame_bytes=counts,
        resume=st.none() | texts,
        resume_ttl_ms=counts,
        resumed=st.booleans(),
        seq=counts,
    ),
    results,
    st.builds(
        Ack,
        *(counts, counts, counts, counts),
        *(st.none() | counts, st.none() | counts, st.none() | counts),
    ),
    _with_scores(Flushed, id=counts),
    st.builds(WasReset, counts),
    _with_scores(Closed),
    st.builds(
        ErrorMessage,
        texts,
        texts,
        st.booleans(),
        st.none() | counts,
        st.none() | texts,
        st.none() | counts,
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | texts,
    ),
    st.builds(GoAway, texts, counts),
)
