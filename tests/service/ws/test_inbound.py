from __future__ import annotations

import tracemalloc

import pytest

from service.ws.inbound import Inbound, Kind, Message
from tests.support.raw_websocket import build_frame, close_payload

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def take(data: bytes, *, max_bytes: int = 1000) -> list[Message]:
    """Return everything that some bytes are."""
    return list(Inbound(max_bytes).feed(data))


class TestMessages:
    """What a client may send. Source: RFC 6455 section 5."""

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            pytest.param(build_frame(TEXT, b"hello"), Message(Kind.TEXT, b"hello"), id="text"),
            pytest.param(build_frame(TEXT, b""), Message(Kind.TEXT, b""), id="empty-text"),
            pytest.param(build_frame(TEXT, "é".encode()), Message(Kind.TEXT, "é".encode()), id="utf8"),
            pytest.param(build_frame(BINARY, b"\xff"), Message(Kind.BINARY, b"\xff"), id="binary"),
            pytest.param(build_frame(PING, b"p"), Message(Kind.PING, b"p"), id="ping"),
            pytest.param(build_frame(PONG, b""), Message(Kind.PONG, b""), id="pong"),
            pytest.param(
                build_frame(CLOSE, close_payload(1001, "bye")),
                Message(Kind.CLOSE, close_payload(1001, "bye"), 1001, "bye"),
                id="close",
            ),
            pytest.param(build_frame(CLOSE), Message(Kind.CLOSE, b"", 1005), id="close-without-a-code"),
            pytest.param(build_frame(TEXT, b"x" * 126), Message(Kind.TEXT, b"x" * 126), id="16-bit-length"),
        ],
    )
    def test_takes_a_frame(self, frame: bytes, message: Message) -> None:
        """Whole, and nothing is kept afterwards. Source: RFC 6455 section 5.2."""
        inbound = Inbound(1000)

        assert [message] == list(inbound.feed(frame))
        assert inbound.is_idle or message.kind is Kind.CLOSE

    def test_takes_several_in_order(self) -> None:
        """Out of one read. Source: RFC 6455 section 5.2."""
        data = build_frame(TEXT, b"1") + build_frame(PING) + build_frame(TEXT, b"2")

        assert [Message(Kind.TEXT, b"1"), Message(Kind.PING), Message(Kind.TEXT, b"2")] == take(data)

    def test_keeps_no_more_than_what_came(self) -> None:
        """A message in parts of one byte takes its own size, and not forty times as much."""
        inbound = Inbound(100_000)
        list(inbound.feed(build_frame(TEXT, b"a", final=False)))
        part = build_frame(CONT, b"a", final=False) * 1000
        tracemalloc.start()
        try:
            for _ in range(20):
                assert [] == list(inbound.feed(part))
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert kept < 100_000
        assert [Message(Kind.TEXT, b"a" * 20_002)] == list(inbound.feed(build_frame(CONT, b"a")))

    def test_takes_bytes_one_by_one(self) -> None:
        """Nothing comes before the last of them. Source: RFC 6455 section 5.2."""
        inbound = Inbound(1000)
        frame = build_frame(TEXT, b"hello")
        for byte in frame[:-1]:
            assert [] == list(inbound.feed(bytes((byte,))))
            assert not inbound.is_idle

        assert [Message(Kind.TEXT, b"hello")] == list(inbound.feed(frame[-1:]))
        assert inbound.is_idle

    def test_no_bytes_are_nothing(self) -> None:
        """Neither at the beginning nor in the middle of a frame."""
        inbound = Inbound(1000)
        assert [] == list(inbound.feed(b""))
        assert inbound.is_idle
        list(inbound.feed(b"\x81"))
        assert [] == list(inbound.feed(b""))
        assert not inbound.is_idle

    @pytest.mark.parametrize("kind", [TEXT, BINARY])
    def test_joins_fragments(self, kind: int) -> None:
        """Also around control frames, and when some are empty; the next message begins anew.

        Source: RFC 6455 section 5.4.
        """
        inbound = Inbound(1000)
        data = (
            build_frame(kind, b"a", final=False)
            + build_frame(CONT, b"", final=False)
            + build_frame(PING, b"p")
            + build_frame(CONT, b"b")
            + build_frame(TEXT, b"c")
        )
        whole = Kind.TEXT if kind == TEXT else Kind.BINARY

        assert [Message(Kind.PING, b"p"), Message(whole, b"ab"), Message(Kind.TEXT, b"c")] == list(inbound.feed(data))
        assert inbound.is_idle

    def test_is_not_idle_between_fragments(self) -> None:
        """The first ones are kept. Source: RFC 6455 section 5.4."""
        inbound = Inbound(1000)
        list(inbound.feed(build_frame(TEXT, b"a", final=False)))
        assert not inbound.is_idle

        assert [Message(Kind.TEXT, b"ab")] == list(inbound.feed(build_frame(CONT, b"b")))

    def test_a_character_may_be_cut_by_fragments(self) -> None:
        """The message is UTF-8 as a whole. Source: RFC 6455 section 5.6."""
        data = build_frame(TEXT, b"\xc3", final=False) + build_frame(CONT, b"\xa9")

        assert [Message(Kind.TEXT, "é".encode())] == take(data)


class TestFaults:
    """What a client may not send."""

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(build_frame(TEXT, b"a", masked=False), id="5.1-unmasked"),
            pytest.param(build_frame(TEXT, b"a", reserved=4), id="5.2-compressed"),
            pytest.param(build_frame(3, b"a"), id="5.2-unknown-opcode"),
            pytest.param(build_frame(11, b"a"), id="5.2-unknown-control-opcode"),
            pytest.param(build_frame(PING, b"a", final=False), id="5.5-fragmented-ping"),
            pytest.param(build_frame(PING, b"a" * 126), id="5.5-long-ping"),
            pytest.param(build_frame(CONT, b"a"), id="5.4-continuation-of-nothing"),
            pytest.param(build_frame(TEXT, b"a", final=False) + build_frame(TEXT, b"b"), id="5.4-message-in-a-message"),
            pytest.param(build_frame(CLOSE, b"\x03"), id="5.5.1-close-of-one-byte"),
            pytest.param(build_frame(CLOSE, close_payload(1005)), id="7.4.1-close-with-a-reserved-code"),
        ],
    )
    def test_protocol_error(self, data: bytes) -> None:
        """1002, with a reason, and nothing is read behind it; the section stands with each case. Source: RFC 6455."""
        (fault,) = take(data + build_frame(TEXT, b"behind"))

        assert (Kind.FAULT, 1002) == (fault.kind, fault.code)
        assert fault.reason.startswith("protocol error: ")

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(build_frame(TEXT, b"\xff"), id="no-utf8"),
            pytest.param(build_frame(TEXT, b"\xed\xa0\x80"), id="surrogate"),
            pytest.param(build_frame(TEXT, b"\xc3"), id="cut-off"),
            pytest.param(build_frame(TEXT, b"a", final=False) + build_frame(CONT, b"\xff"), id="in-a-fragment"),
            pytest.param(build_frame(CLOSE, b"\x03\xe8\xff"), id="reason-of-a-close"),
        ],
    )
    def test_invalid_utf8(self, data: bytes) -> None:
        """1007. Source: RFC 6455 section 8.1."""
        assert [Message(Kind.FAULT, code=1007, reason="text is not UTF-8")] == take(data)

    @pytest.mark.parametrize("extra", [0, 1])
    @pytest.mark.parametrize("parts", [1, 2, 4])
    def test_message_size(self, parts: int, extra: int) -> None:
        """At the limit, and one byte past it 1009; fragments are added up. Source: RFC 6455 section 10.4."""
        size = 1000 // parts
        sizes = [size] * (parts - 1) + [size + extra]
        data = b"".join(
            build_frame(TEXT if index == 0 else CONT, b"x" * length, final=index == parts - 1)
            for index, length in enumerate(sizes)
        )
        fault = Message(Kind.FAULT, code=1009, reason="message too big: at most 1000 bytes")

        assert [fault if extra else Message(Kind.TEXT, b"x" * 1000)] == take(data)

    def test_a_message_that_is_too_big_is_refused_by_its_header(self) -> None:
        """Before its payload is read or kept. Source: RFC 6455 section 10.4."""
        (fault,) = take(build_frame(TEXT, b"", length=2**40))

        assert 1009 == fault.code

    def test_messages_do_not_add_up(self) -> None:
        """Each is measured by itself."""
        inbound = Inbound(10)
        for _ in range(3):
            data = build_frame(TEXT, b"x" * 5, final=False) + build_frame(CONT, b"x" * 5)

            assert [Message(Kind.TEXT, b"x" * 10)] == list(inbound.feed(data))

    def test_nothing_is_read_behind_a_close(self) -> None:
        """The client has nothing more to say. Source: RFC 6455 section 5.5.1."""
        data = build_frame(CLOSE, close_payload(1000)) + build_frame(TEXT, b"late")

        assert [Kind.CLOSE] == [message.kind for message in take(data)]
