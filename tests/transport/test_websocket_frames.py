"""The websocket frames that the server writes by itself are those of the library."""

import pytest
from websockets.frames import Frame, Opcode

from saccade.server.transport.coalescing import BINARY, TEXT, frame_header


@pytest.mark.parametrize("size", [0, 1, 125, 126, 255, 65535, 65536, 1 << 20])
@pytest.mark.parametrize(
    ("kind", "opcode"), [(TEXT, Opcode.TEXT), (BINARY, Opcode.BINARY)]
)
def test_a_message_of_any_size_is_framed_as_the_library_frames_it(
    kind: int, opcode: Opcode, size: int
) -> None:
    data = bytes(size)
    assert frame_header(kind, size) + data == Frame(opcode, data).serialize(mask=False)
