from __future__ import annotations

import pytest

from saccade.clients.endpoint import is_loopback, rest_url, stream_url


@pytest.mark.parametrize(
    ("given", "stream", "rest"),
    [
        ("ws://h:8000", "ws://h:8000/v1/stream", "http://h:8000"),
        ("http://h:8000/", "ws://h:8000/v1/stream", "http://h:8000"),
        ("https://h", "wss://h/v1/stream", "https://h"),
        ("wss://h/v1/stream", "wss://h/v1/stream", "https://h"),
        ("h:8000", "ws://h:8000/v1/stream", "http://h:8000"),
        ("ws://[::1]:9", "ws://[::1]:9/v1/stream", "http://[::1]:9"),
        ("ws://h/saccade/v1/stream", "ws://h/saccade/v1/stream", "http://h/saccade"),
    ],
)
def test_one_address_names_the_websocket_and_the_rest_interface(given, stream, rest):
    assert (stream_url(given), rest_url(given)) == (stream, rest)


@pytest.mark.parametrize("text", ["", "ftp://h", "ws://", "file:///x"])
def test_what_is_no_address_is_refused_by_name(text):
    with pytest.raises(ValueError, match="no address"):
        stream_url(text)


def test_this_machine_is_known_by_its_names():
    assert is_loopback("ws://127.0.0.1:8000")
    assert is_loopback("localhost:8000")
    assert not is_loopback("ws://10.0.0.1:8000")
