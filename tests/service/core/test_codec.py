from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import codec
from service.core.codes import Disconnect, Disconnects, Errors, Unsubscribes, rows
from service.core.messages import (
    Command,
    ConnectRequest,
    HistoryRequest,
    PublishRequest,
    StreamPositionRequest,
    SubscribeRequest,
)
from service.core.stream import Publication

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class TestSplit:
    """A text message into lines."""

    @pytest.mark.parametrize(
        ("frame", "lines"),
        [
            pytest.param(b"{}", [b"{}"], id="one"),
            pytest.param(b"{}\n", [b"{}"], id="newline-at-the-end"),
            pytest.param(b"{}\n{}", [b"{}", b"{}"], id="two"),
            pytest.param(b"{}\n{}\n", [b"{}", b"{}"], id="two-and-newline"),
            pytest.param(b"{}\n\n{}", [b"{}", b"", b"{}"], id="empty-line-between"),
            pytest.param(b"{}\n\n", [b"{}", b""], id="two-newlines-at-the-end"),
            pytest.param(b"", [b""], id="empty"),
            pytest.param(b"\n", [b""], id="newline-alone"),
        ],
    )
    def test_keeps_every_line(self, frame: bytes, lines: list[bytes]) -> None:
        """One newline at the end is tolerated, an empty line is not hidden."""
        assert lines == codec.split(frame)


class TestDecodeCommand:
    """A line into a command."""

    def test_reads_a_command(self) -> None:
        """Fields that are missing are zero, and those nobody knows are ignored."""
        line = b'{"id":7,"subscribe":{"channel":"a","flag":1,"nobody knows":[1]},"more":null}'

        assert Command(id=7, subscribe=SubscribeRequest(channel="a", flag=1)) == codec.decode_command(line)

    def test_reads_nothing_as_a_pong(self) -> None:
        """An empty object has neither id nor method."""
        assert Command() == codec.decode_command(b"{}")

    def test_keeps_payloads_raw(self) -> None:
        """To the byte."""
        command = codec.decode_command(b'{"id":1,"publish":{"channel":"a","data":{"x" : 1.50}}}')

        assert command is not None
        assert PublishRequest("a", msgspec.Raw(b'{"x" : 1.50}')) == command.publish

    def test_reads_nested_requests(self) -> None:
        """Positions of a history request, and subscriptions of a connect request."""
        history = codec.decode_command(
            b'{"id":1,"history":{"channel":"a","limit":-1,"since":{"offset":3,"epoch":"e"}}}'
        )
        connect = codec.decode_command(b'{"id":1,"connect":{"subs":{"a":{"recover":true,"offset":2}}}}')

        assert history is not None
        assert HistoryRequest("a", -1, StreamPositionRequest(3, "e")) == history.history
        assert connect is not None
        assert ConnectRequest(subs={"a": SubscribeRequest(recover=True, offset=2)}) == connect.connect

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"null", id="null"),
            pytest.param(b"[]", id="array"),
            pytest.param(b"connect", id="no-json"),
            pytest.param(b"{}{}", id="two-objects"),
            pytest.param(b'{"id":1,"connect":{}', id="cut-off"),
            pytest.param(b'{"id":-1,"connect":{}}', id="negative-id"),
            pytest.param(b'{"id":4294967296,"connect":{}}', id="huge-id"),
            pytest.param(b'{"id":1.5,"connect":{}}', id="fractional-id"),
            pytest.param(b'{"id":"1","connect":{}}', id="id-as-text"),
            pytest.param(b'{"id":1,"connect":[]}', id="params-of-another-type"),
            pytest.param(b'{"id":1,"subscribe":{"channel":5}}', id="channel-of-another-type"),
            pytest.param(b'{"id":1,"subscribe":{"channel":"a","offset":9223372036854775808}}', id="huge-offset"),
            pytest.param(b'{"id":1,"subscribe":{"channel":"a","offset":-1}}', id="negative-offset"),
            pytest.param(b'{"id":1,"publish":{"channel":"a","data":01}}', id="payload-is-no-json"),
            pytest.param(b'{"id":1,"publish":{"channel":"\xff","data":1}}', id="not-utf8"),
            pytest.param(b"[" * 100_000, id="deep-and-unclosed"),
            pytest.param(b'{"id":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep-in-an-unknown-field"),
        ],
    )
    def test_refuses(self, line: bytes) -> None:
        """Whatever is no command gives None, and nothing raises."""
        assert codec.decode_command(line) is None

    @pytest.mark.parametrize("request_id", [0, 1, 2**32 - 1])
    def test_takes_ids_of_32_bits(self, request_id: int) -> None:
        """The first and the last of them."""
        assert Command(id=request_id) == codec.decode_command(b'{"id":%d}' % request_id)

    def test_takes_nesting_up_to_the_limit(self) -> None:
        """The command and its request are two levels of it."""
        deepest = codec.MAX_DEPTH - 2
        line = b'{"id":1,"publish":{"channel":"a","data":%b%b}}'

        assert codec.decode_command(line % (b"[" * deepest, b"]" * deepest)) is not None
        assert codec.decode_command(line % (b"[" * (deepest + 1), b"]" * (deepest + 1))) is None


class TestTooDeep:
    """How deep arrays and objects nest."""

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(b"[" * 128 + b"]" * 128, False, id="at-the-limit"),
            pytest.param(b"[" * 129 + b"]" * 129, True, id="one-past-it"),
            pytest.param(b'{"a":' * 129 + b"1" + b"}" * 129, True, id="objects"),
            pytest.param(b"[" + b"[]," * 200 + b"[]]", False, id="many-but-flat"),
            pytest.param(b'"' + b"[" * 500 + b'"', False, id="inside-a-string"),
            pytest.param(b'["\\"' + b"[" * 500 + b'"]', False, id="behind-an-escaped-quote"),
            pytest.param(b'["\\\\",' + b"[" * 128 + b"]" * 128 + b"]", True, id="behind-an-escaped-backslash"),
            pytest.param(b"", False, id="empty"),
        ],
    )
    def test_counts_levels(self, data: bytes, *, expected: bool) -> None:
        """Brackets inside strings do not count."""
        assert expected is codec.too_deep(data)


class TestIsReadable:
    """What is looked at before anything else, of whatever a stranger sends."""

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(b"[" * 129 + b'"' + b'\\"' * 100_000, False, id="escaped-quotes-without-an-end"),
            pytest.param(b"[]" * 129 + b'"' + b'\\"' * 100_000 + b"\\", True, id="a-backslash-at-the-end"),
            pytest.param(b"[]" * 129 + b'"a' * 100_000, True, id="quotes"),
            pytest.param((b"1" * 4300 + b",") * 240, True, id="numbers-just-short-enough"),
            pytest.param((b"1" * 4300 + b",") * 240 + b"1" * 4301, False, id="one-number-too-long"),
            pytest.param(b'"' + b"1" * 4301 + b'"', True, id="digits-in-a-string"),
        ],
    )
    def test_takes_time_by_length_alone(self, data: bytes, *, expected: bool) -> None:
        """One frame, before any token, must not hold up everybody; what is tried again and again takes minutes."""
        before = time.process_time()
        assert expected is codec.is_readable(data)
        assert time.process_time() - before < 1


class TestIsJson:
    """Whether a payload may be sent to every client."""

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(b"null", True, id="null"),
            pytest.param(b' {"a" : [1, 2.5e3, "\xc3\xa9"]}\n', True, id="object"),
            pytest.param(b"", False, id="empty"),
            pytest.param(b" ", False, id="blank"),
            pytest.param(b"1 2", False, id="two-values"),
            pytest.param(b"NaN", False, id="not-a-number"),
            pytest.param(b"'a'", False, id="single-quotes"),
            pytest.param(b'"\xff"', False, id="not-utf8"),
            pytest.param(b'"a\nb"', False, id="line-break-in-a-string"),
            pytest.param(b"[" * 129 + b"]" * 129, False, id="too-deep"),
            pytest.param(b"[" * 100_000 + b"]" * 100_000, False, id="far-too-deep"),
        ],
    )
    def test_checks(self, data: bytes, *, expected: bool) -> None:
        """One value, in UTF-8, not nested too deeply."""
        assert expected is codec.is_json(data)

    @given(JSON_VALUES)
    def test_takes_whatever_json_writes(self, value: object) -> None:
        """With and without escapes."""
        assert codec.is_json(json.dumps(value).encode())
        assert codec.is_json(json.dumps(value, ensure_ascii=False, indent=1).encode())

    @given(st.binary(max_size=40) | st.text('{}[]",:0123456789.eE+-truefalsn\\u \n', max_size=40).map(str.encode))
    def test_takes_nothing_that_python_cannot_read(self, data: bytes) -> None:
        """Otherwise one publication would end every Python subscriber."""
        if codec.is_json(data):
            json.loads(data)


class TestCompact:
    """A payload on one line."""

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            pytest.param(b'{"a": 1}', b'{"a": 1}', id="nothing-to-do"),
            pytest.param(b'{"a":\n 1}\n', b'{"a":  1}', id="newlines"),
            pytest.param(b"[1,\r\n2]", b"[1,  2]", id="carriage-returns"),
            pytest.param(b"\r1", b"1", id="carriage-return-alone"),
        ],
    )
    def test_replaces_line_breaks(self, data: bytes, expected: bytes) -> None:
        """A line break would end a line of the protocol."""
        assert expected == codec.compact(data)
        assert expected == codec.compact(msgspec.Raw(data))

    @given(JSON_VALUES)
    def test_changes_nothing_else(self, value: object) -> None:
        """The value is the same, on one line."""
        compacted = codec.compact(json.dumps(value, indent=2).replace("\n", "\r\n").encode())

        assert value == json.loads(compacted)
        assert b"\n" not in compacted
        assert b"\r" not in compacted


class TestWriting:
    """Replies and pushes as JSON."""

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (codec.PING, {}),
            (codec.reply(3, "unsubscribe"), {"id": 3, "unsubscribe": {}}),
            (codec.reply(4, "rpc", b'{"data":1}'), {"id": 4, "rpc": {"data": 1}}),
            (
                codec.error_reply(5, Errors.PERMISSION_DENIED),
                {"id": 5, "error": {"code": 103, "message": "permission denied"}},
            ),
            (
                codec.error_reply(6, Errors.INTERNAL),
                {"id": 6, "error": {"code": 100, "message": "internal server error", "temporary": True}},
            ),
            (codec.publication_push("a", b'{"data":1}'), {"push": {"channel": "a", "pub": {"data": 1}}}),
            (codec.join_push("a", b'{"user":"1"}'), {"push": {"channel": "a", "join": {"info": {"user": "1"}}}}),
            (codec.leave_push("a", b'{"user":"1"}'), {"push": {"channel": "a", "leave": {"info": {"user": "1"}}}}),
            (
                codec.unsubscribe_push("a", Unsubscribes.EXPIRED),
                {"push": {"channel": "a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}},
            ),
            (codec.message_push(b"[1]"), {"push": {"message": {"data": [1]}}}),
        ],
    )
    def test_writes_lines(self, line: bytes, expected: dict[str, Any]) -> None:
        """One line each, with the method's key even when the result is empty."""
        assert expected == json.loads(line)
        assert b"\n" not in line

    @pytest.mark.parametrize(
        ("conn_info", "chan_info", "more"),
        [
            (None, None, {}),
            (b'{"n":1}', None, {"conn_info": {"n": 1}}),
            (None, b"2", {"chan_info": 2}),
            (b"1", b"2", {"conn_info": 1, "chan_info": 2}),
        ],
    )
    def test_describes_a_client(self, conn_info: bytes | None, chan_info: bytes | None, more: dict[str, Any]) -> None:
        """An info that is not there leaves no key."""
        info = codec.client_info('4"2', "client", conn_info, chan_info)

        assert {"user": '4"2', "client": "client", **more} == json.loads(info)

    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            (Publication(0, b"1"), {"data": 1}),
            (Publication(7, b"1"), {"data": 1, "offset": 7}),
            (
                Publication(7, b"{}", info=b'{"user":"1"}', tags=b'{"a":"b"}', at=5.0),
                {"data": {}, "offset": 7, "info": {"user": "1"}, "tags": {"a": "b"}},
            ),
        ],
    )
    def test_describes_a_publication(self, item: Publication, expected: dict[str, Any]) -> None:
        """What is zero or missing leaves no key, and the time stays here."""
        assert expected == json.loads(codec.publication(item))

    @given(st.text())
    def test_quotes_any_text(self, text: str) -> None:
        """Names come from clients."""
        assert text == json.loads(codec.quote(text))
        assert b"\n" not in codec.quote(text)


class TestDisconnectReason:
    """A reason in a close frame."""

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            pytest.param("shutdown", "shutdown", id="short"),
            pytest.param("x" * 123, "x" * 123, id="at-the-limit"),
            pytest.param("x" * 124, "x" * 123, id="one-past-it"),
            pytest.param("x" * 122 + "é", "x" * 122, id="across-a-character"),
        ],
    )
    def test_cuts_at_123_bytes(self, reason: str, expected: str) -> None:
        """At a whole character."""
        assert expected == codec.disconnect_reason(Disconnect(3000, reason))

    def test_leaves_our_own_whole(self) -> None:
        """None of the table is cut."""
        for _, row in rows(Disconnects):
            assert isinstance(row, Disconnect)
            assert row.reason == codec.disconnect_reason(row)
