"""Where numba does not load, NumPy takes the frames."""

from __future__ import annotations

import sys

import pytest

from saccade.model.ingest import NumpyIngest
from saccade.server.protocol.conversation import Conversation, Limits
from saccade.server.protocol.ingest import fastest, prepare_ingest
from saccade.server.protocol.messages import EventsFrame, Open
from tests.server.protocol.scripted import TOKENIZATION, fed, frame


def test_the_compiled_way_is_taken_where_numba_is_installed() -> None:
    compiled = pytest.importorskip("saccade.model.compiled_ingest")
    prepare_ingest()
    assert fastest() is compiled.CompiledIngest


def test_without_numba_numpy_takes_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert fastest.__wrapped__() is NumpyIngest


def test_where_numba_does_not_load_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba")
    monkeypatch.setitem(sys.modules, "saccade.model.compiled_ingest", None)
    with pytest.warns(UserWarning, match="no compiled ingest"):
        assert fastest.__wrapped__() is NumpyIngest


def test_a_conversation_takes_the_way_that_it_is_given() -> None:
    conversation = Conversation(Limits(), NumpyIngest)
    conversation.receive(Open("any"))
    conversation.begin(TOKENIZATION)
    assert fed(conversation, frame(1, 10, 20)) == [10, 20]
    assert fed(conversation, EventsFrame(2, b"")) == []
