from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.ws.inbound import Inbound, Kind, Message
from tests.support.fuzzing import SPLITS
from tests.support.raw_websocket import build_frame, close_payload

PER_EXAMPLE = 5
MAX_BYTES = 300

payloads = st.sampled_from(
    [b"", b"{}", b"hello", "h\u00e9llo \U0001f30a".encode(), b"x" * 125, b"x" * 126, b"x" * 300, b"x" * 301, b"\xff"]
)
opcodes = st.sampled_from([1, 1, 1, 2, 0, 0, 9, 10])
frames = st.one_of(
    st.builds(build_frame, opcodes, payloads),
    st.builds(build_frame, opcodes, payloads, final=st.booleans()),
    st.builds(
        build_frame, st.just(8), st.sampled_from([b"", close_payload(1000), close_payload(1001, "bye"), b"\x03"])
    ),
    st.builds(
        build_frame,
        st.integers(0, 15),
        payloads,
        reserved=st.sampled_from([0, 0, 4]),
        masked=st.booleans(),
        length_bytes=st.sampled_from([None, 8]),
    ),
    st.binary(max_size=20),
)
cuts = st.lists(st.integers(0, 3000), max_size=20)

pytestmark = pytest.mark.timeout(1200)


def feed(parts: list[bytes]) -> list[Message]:
    """Return the messages of some reads; after a fault or a close nothing more is read."""
    inbound = Inbound(MAX_BYTES)
    messages: list[Message] = []
    for part in parts:
        messages += inbound.feed(part)
        if messages and messages[-1].kind in (Kind.FAULT, Kind.CLOSE):
            break
    return messages


def split(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at some places, wherever they are."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def test_random_splits_change_nothing() -> None:
    """The same messages come, and the same fault, however the bytes arrive."""
    tried = 0

    @settings(max_examples=SPLITS // PER_EXAMPLE, suppress_health_check=list(HealthCheck))
    @given(st.lists(frames, max_size=8), st.lists(cuts, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def run(parts: list[bytes], ways: list[list[int]]) -> None:
        nonlocal tried
        data = b"".join(parts)
        whole = feed([data])
        for places in ways:
            tried += 1
            assert whole == feed(split(data, places))
        assert whole == feed([data[at : at + 1] for at in range(len(data))])

    run()
    print(f"{tried} splits")  # noqa: T201 - shown with -s, and when it fails

    assert tried >= SPLITS
