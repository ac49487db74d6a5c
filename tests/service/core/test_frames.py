from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from service.core.frames import payload_of, text_frame


def parse(data: bytes) -> Frame:
    """Read one frame as a client does."""
    reader = StreamReader()
    reader.feed_data(data)
    parser = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as whole:
        next(parser)
    assert not reader.buffer
    frame = whole.value.value
    assert isinstance(frame, Frame)
    return frame


@pytest.mark.parametrize(
    ("size", "head"),
    [
        pytest.param(0, b"\x81\x00", id="empty"),
        pytest.param(125, b"\x81\x7d", id="last-of-7-bits"),
        pytest.param(126, b"\x81\x7e\x00\x7e", id="first-of-16-bits"),
        pytest.param(65_535, b"\x81\x7e\xff\xff", id="last-of-16-bits"),
        pytest.param(65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", id="first-of-64-bits"),
    ],
)
def test_writes_the_shortest_length(size: int, head: bytes) -> None:
    """Source: RFC 6455 section 5.2, the minimal number of bytes must be used."""
    frame = text_frame(b"x" * size)

    assert head + b"x" * size == frame
    assert b"x" * size == payload_of(frame)


@given(st.binary(max_size=300))
def test_is_read_by_another_implementation(payload: bytes) -> None:
    """One final text frame without a mask, and the payload comes back."""
    frame = text_frame(payload)
    parsed = parse(frame)

    assert (Opcode.TEXT, True, payload) == (parsed.opcode, parsed.fin, bytes(parsed.data))
    assert (False, False, False) == (parsed.rsv1, parsed.rsv2, parsed.rsv3)
    assert payload == payload_of(frame)
