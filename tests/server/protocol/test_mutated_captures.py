"""Damaged messages of real sessions raise typed errors and nothing else."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

from saccade.model.events.tolerance import FAR_US
from saccade.model.tokens import TimedTokens, Tokenization
from saccade.server.protocol.codec import Wire
from saccade.server.protocol.conversation import Conversation, Feed, Limits, Reply
from saccade.server.protocol.errors import ProtocolError
from saccade.server.protocol.messages import (
    ErrorMessage,
    Open,
    error_message,
)
from tests.fuzzing import SENSOR, Capture, Mutator, Said, captures

MUTATED = 100_000
TOKENIZATION = Tokenization("linear", SENSOR)
LIMITS = Limits(max_frame_bytes=4096, window_events=4096)


class Session:
    """The server's side of a session, but for the engine."""

    def __init__(self) -> None:
        self.conversation = Conversation(LIMITS)
        self.newest_us: int | None = None
        self.taken = 0

    def read(self, data: Wire) -> list[ErrorMessage]:
        """Take a message; return the errors that are to be sent."""
        errors = []
        for request in self.conversation.read(data):
            match request:
                case Open():
                    self.conversation.begin(TOKENIZATION)
                case Feed(TimedTokens(tokens, t_us)):
                    assert (np.diff(t_us) >= 0).all()
                    if self.newest_us is not None and len(t_us):
                        back_us = self.newest_us - int(t_us[0])
                        assert back_us <= 0 or back_us > FAR_US, "a far step is undone"
                    assert ((tokens >= 0) & (tokens < TOKENIZATION.num_tokens)).all()
                    self.taken += 1
                    if len(t_us):
                        self.newest_us = int(t_us[-1])
                case Reply(message):
                    errors.append(message)
                case _:
                    self.newest_us = None
        return errors


def play(script: list[Said], codes: Counter[str]) -> int:
    """Play a script until it is refused; return how many frames were taken."""
    session = Session()
    for said in script:
        codes["damaged"] += said.damaged
        errors = answers(session, said.wire)
        for message in errors:
            codes[message.code] += 1
            session.conversation.write(message)
        if any(message.fatal for message in errors):
            break
    return session.taken


def answers(session: Session, data: Wire) -> list[ErrorMessage]:
    try:
        return session.read(data)
    except ProtocolError as error:
        return [error_message(error)]


@pytest.mark.parametrize("capture", captures(), ids=lambda capture: capture.name)
def test_an_unharmed_capture_is_taken(capture: Capture) -> None:
    codes: Counter[str] = Counter()
    taken = play([Said(data, damaged=False) for data in capture.messages], codes)
    assert (taken, codes.total()) == (30, 0)


@pytest.mark.slow
def test_mutated_captures_raise_nothing_but_typed_errors() -> None:
    whole, mutator, codes, taken = captures(), Mutator(5), Counter[str](), 0
    while codes["damaged"] < MUTATED:
        taken += play(mutator.script(mutator.random.choice(whole).messages), codes)
    sys.stdout.write(f"\n{codes}; {taken} frames taken\n")
    assert taken > MUTATED / 10
    for code in (
        *("malformed_message", "invalid_field", "unexpected_message"),
        *("sequence_gap", "unsupported_protocol", "frame_too_large"),
        *("malformed_events", "event_outside_sensor", "unsorted_events"),
    ):
        assert codes[code] > 0, code
