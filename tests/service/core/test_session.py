from __future__ import annotations

import json
import math
from typing import Any

import pytest

from service.core.codes import Disconnect, Disconnects, Errors
from service.core.messages import Request
from service.core.session import Session, SessionLimits, State

NOW = 1000.0
LIMITS = SessionLimits()


def session(limits: SessionLimits = LIMITS, *, phase: float = 0.5) -> Session:
    """Return one that has just been opened."""
    return Session(limits, "client", now=NOW, phase=phase)


def connected(limits: SessionLimits = LIMITS, *, expires_at: float = math.inf, phase: float = 0.5) -> Session:
    """Return one whose connect was accepted, with nothing left to send."""
    opened = session(limits, phase=phase)
    (request,) = opened.receive(b'{"id":1,"connect":{}}', NOW)
    opened.accept(request, "42", b"{}", expires_at=expires_at, now=NOW)
    opened.frames_to_send()
    return opened


def sent(opened: Session) -> list[dict[str, Any]]:
    """Return what it has to send, and take it."""
    payload = opened.frames_to_send()
    return [json.loads(line) for line in payload.split(b"\n")] if payload else []


def methods(requests: list[Request]) -> list[tuple[int, str]]:
    """Return id and method of each."""
    return [(request.id, request.method) for request in requests]


def command_of(size: int, *, head: str = '{"id":2,"publish":{"channel":"a","data":"') -> bytes:
    """Return a command that takes ``size`` bytes."""
    return (head + "x" * (size - len(head) - 3) + '"}}').encode()


def violation(opened: Session, frame: bytes) -> str:
    """Receive a frame that breaks the protocol, and return the reason of the close."""
    assert [] == opened.receive(frame, NOW)
    why = opened.close_due()
    assert why is not None
    assert Disconnects.BAD_REQUEST.code == why.code
    assert State.CLOSED is opened.state
    assert "" != why.reason
    return why.reason


class TestReceive:
    """Which commands come through, and which end the connection. Source: client protocol, framing."""

    def test_returns_commands_in_order(self) -> None:
        """Several lines of one frame, connect first."""
        opened = session()
        frame = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"}}\n{"send":{"data":1}}\n'

        assert [(1, "connect"), (2, "subscribe"), (0, "send")] == methods(opened.receive(frame, NOW))
        assert State.CONNECTING is opened.state
        assert opened.close_due() is None

    def test_says_how_large_a_command_was(self) -> None:
        """Its own bytes, without the line break."""
        (first, second) = session().receive(b'{"id":1,"connect":{}}\n{"id":2,"rpc":{}}', NOW)

        assert (21, 17) == (first.size, second.size)

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            pytest.param(b"", "malformed command", id="empty-frame"),
            pytest.param(b"hello", "malformed command", id="not-json"),
            pytest.param(b"[]", "malformed command", id="array"),
            pytest.param(b"\xff\xfe", "malformed command", id="not-utf8"),
            pytest.param(b'{"id":4294967296,"connect":{}}', "malformed command", id="huge-id"),
            pytest.param(b'{"id":1,"connect":{}}\n\n', "malformed command", id="empty-line"),
            pytest.param(b'{"id":1,"subscribe":{"channel":"a"}}', "connect must come first", id="before-connect"),
            pytest.param(b'{"send":{"data":1}}', "connect must come first", id="send-before-connect"),
            pytest.param(b'{"connect":{}}', "command without an id", id="connect-without-id"),
            pytest.param(b"{}", "pong without a ping", id="pong-before-connect"),
        ],
    )
    def test_closes_a_new_session(self, frame: bytes, reason: str) -> None:
        """With 3501, and nothing of the frame is done."""
        assert f"bad request: {reason}" == violation(session(), frame)

    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            pytest.param(b'{"id":2,"connect":{}}', "second connect", id="second-connect"),
            pytest.param(b'{"subscribe":{"channel":"a"}}', "command without an id", id="id-0"),
            pytest.param(b'{"id":2}', "unknown method", id="no-method"),
            pytest.param(b'{"id":2,"fly":{}}', "unknown method", id="unknown-method"),
            pytest.param(b"{}", "pong without a ping", id="pong-without-ping"),
            pytest.param(b'{"fly":{}}', "pong without a ping", id="unknown-method-without-id"),
            pytest.param(b'{"id":2,"rpc":{},"history":{"channel":"a"}}', "more than one method", id="two-methods"),
            pytest.param(b'{"id":2,"publish":{"channel":"a"}}', "publish without data", id="publish-without-data"),
            *(
                pytest.param(
                    b'{"id":2,"%b":{"data":1}}' % method.encode(),
                    f"{method} without a channel",
                    id=f"{method}-without-channel",
                )
                for method in (
                    "subscribe",
                    "unsubscribe",
                    "publish",
                    "presence",
                    "presence_stats",
                    "history",
                    "sub_refresh",
                )
            ),
        ],
    )
    def test_closes_a_connected_session(self, frame: bytes, reason: str) -> None:
        """With 3501 and a reason that says what was wrong."""
        assert f"bad request: {reason}" in violation(connected(), frame)

    def test_does_nothing_of_a_frame_with_a_violation(self) -> None:
        """Neither what stands before it nor what stands behind."""
        opened = connected()

        violation(opened, b'{"id":2,"rpc":{}}\n{"id":3}\n{"id":4,"rpc":{}}')
        assert [] == sent(opened)

    def test_reads_nothing_once_closed(self) -> None:
        """Not even a second violation."""
        opened = connected()
        opened.close(Disconnects.SHUTDOWN)

        assert [] == opened.receive(b'{"id":2,"rpc":{}}', NOW)
        assert Disconnects.SHUTDOWN == opened.close_due()

    def test_refuses_binary(self) -> None:
        """Only the JSON codec is spoken."""
        opened = connected()
        opened.receive_binary()

        assert Disconnects.INAPPROPRIATE_PROTOCOL == opened.close_due()

    def test_hands_out_ping_to_be_refused_in_its_turn(self) -> None:
        """It is in the schema, and not available."""
        requests = connected().receive(b'{"id":2,"rpc":{}}\n{"id":3,"ping":{}}', NOW)

        assert [None, Errors.NOT_AVAILABLE] == [request.refusal for request in requests]


class TestLimits:
    """At the limit and one past it."""

    def test_counts_the_commands_of_a_frame(self) -> None:
        """One too many closes with 3501."""
        opened = connected(SessionLimits(commands_per_frame=3))
        line = b'{"id":2,"rpc":{}}'

        assert 3 == len(opened.receive(b"\n".join([line] * 3), NOW))
        assert "too many commands in one frame" == violation(opened, b"\n".join([line] * 4))

    def test_measures_each_command(self) -> None:
        """One byte more is refused with 107 in its turn; the frame as a whole may be longer."""
        opened = connected(SessionLimits(message_bytes=100))
        requests = opened.receive(command_of(100) + b"\n" + command_of(101) + b"\n" + command_of(100), NOW)

        assert [None, Errors.BAD_REQUEST, None] == [request.refusal for request in requests]
        assert opened.close_due() is None

    @pytest.mark.parametrize("size", [65_536, 65_537])
    def test_is_64_kib_by_default(self, size: int) -> None:
        """As documented."""
        (request,) = connected().receive(command_of(size), NOW)

        assert (size > 65_536) is (request.refusal is Errors.BAD_REQUEST)

    @pytest.mark.parametrize(
        ("opened", "head"),
        [
            pytest.param(session(), '{"id":1,"connect":{"data":"', id="connect"),
            pytest.param(connected(), '{"send":{"data":"', id="send"),
        ],
    )
    def test_closes_where_no_error_can_be_answered(self, opened: Session, head: str) -> None:
        """With a code after which clients come back, and the limit in the reason."""
        assert [] == opened.receive(command_of(65_537, head=head), NOW)
        expected = Disconnect(Disconnects.MESSAGE_TOO_BIG.code, "message too big: at most 65536 bytes")
        assert expected == opened.close_due()

    def test_a_violation_comes_before_the_size(self) -> None:
        """A command that is out of turn and too large is out of turn."""
        assert "connect must come first" in violation(session(), command_of(65_537))


class TestAnswers:
    """What is sent."""

    def test_joins_lines_into_one_message(self) -> None:
        """In the order of the calls; afterwards there is nothing left."""
        opened = connected()
        first, second = opened.receive(b'{"id":2,"rpc":{}}\n{"id":3,"unsubscribe":{"channel":"a"}}', NOW)
        opened.reject(first, Errors.METHOD_NOT_FOUND)
        opened.reply(second)
        opened.push(b'{"push":{}}')

        expected = [{"id": 2, "error": {"code": 104, "message": "method not found"}}, {"id": 3, "unsubscribe": {}}]
        assert [*expected, {"push": {}}] == sent(opened)
        assert b"" == opened.frames_to_send()

    def test_answers_nothing_to_send(self) -> None:
        """It has no id to answer to."""
        opened = connected()
        (request,) = opened.receive(b'{"send":{"data":1}}', NOW)
        opened.reject(request, Errors.TOO_MANY_REQUESTS)

        assert [] == sent(opened)

    def test_accept_makes_it_the_connection_of_a_user(self) -> None:
        """And answers connect."""
        opened = session()
        (request,) = opened.receive(b'{"id":1,"connect":{}}', NOW)
        opened.accept(request, "42", b'{"client":"client"}', expires_at=math.inf, now=NOW)

        assert (State.CONNECTED, "42") == (opened.state, opened.user)
        assert [{"id": 1, "connect": {"client": "client"}}] == sent(opened)

    def test_accept_does_nothing_once_closed(self) -> None:
        """It was closed while somebody decided."""
        opened = session()
        (request,) = opened.receive(b'{"id":1,"connect":{}}', NOW)
        opened.close(Disconnects.SHUTDOWN)
        opened.accept(request, "42", b"{}", expires_at=math.inf, now=NOW)

        assert (State.CLOSED, "") == (opened.state, opened.user)
        assert [] == sent(opened)

    def test_sends_nothing_once_closed(self) -> None:
        """What came before goes out; the close frame is the last thing that a peer gets."""
        opened = connected()
        opened.push(b'{"push":{}}')
        opened.close(Disconnects.SHUTDOWN)
        opened.push(b'{"push":{"late":1}}')

        assert [{"push": {}}] == sent(opened)

    def test_first_reason_wins(self) -> None:
        """A close is not overwritten by what follows from it."""
        opened = connected()
        opened.close(Disconnects.SLOW)
        opened.close(Disconnects.SHUTDOWN)

        assert Disconnects.SLOW == opened.close_due()


class TestTime:
    """What happens because time passes."""

    @pytest.mark.parametrize("is_connecting", [True, False])
    def test_connect_must_come_in_time(self, *, is_connecting: bool) -> None:
        """Else 3502; a connect that was refused does not count."""
        opened = session()
        if is_connecting:
            opened.receive(b'{"id":1,"connect":{}}', NOW)

        assert NOW + 10 == opened.deadline()
        opened.elapse(NOW + 9.9)
        assert opened.close_due() is None
        opened.elapse(NOW + 10)
        assert Disconnects.STALE == opened.close_due()

    @pytest.mark.parametrize(("phase", "seconds"), [(0.0, 15.0), (0.5, 22.5), (0.999, 29.985)])
    def test_first_ping_is_spread_over_half_an_interval(self, phase: float, seconds: float) -> None:
        """Between a half and the whole of it."""
        opened = connected(phase=phase)

        assert pytest.approx(NOW + seconds) == opened.deadline()

    def test_pings_and_takes_the_pong(self) -> None:
        """Then again after the interval."""
        opened = connected(phase=0.0)
        opened.elapse(NOW + 14.9)
        assert b"" == opened.frames_to_send()
        opened.elapse(NOW + 15)
        assert b"{}" == opened.frames_to_send()
        assert NOW + 25 == opened.deadline()
        assert [] == opened.receive(b"{}", NOW + 16)
        assert opened.close_due() is None
        assert NOW + 45 == opened.deadline()

    def test_no_pong_in_time(self) -> None:
        """Closes with 3012, at the timeout and not before."""
        opened = connected(phase=0.0)
        opened.elapse(NOW + 15)
        opened.elapse(NOW + 24.9)
        assert opened.close_due() is None
        opened.elapse(NOW + 25)

        assert Disconnects.NO_PONG == opened.close_due()

    def test_a_second_pong_is_a_violation(self) -> None:
        """One ping, one pong."""
        opened = connected(phase=0.0)
        opened.elapse(NOW + 15)
        opened.receive(b"{}", NOW + 16)

        assert "bad request: pong without a ping" == violation(opened, b"{}")

    def test_a_pong_may_come_with_commands(self) -> None:
        """In one frame."""
        opened = connected(phase=0.0)
        opened.elapse(NOW + 15)

        assert [(2, "rpc")] == methods(opened.receive(b'{"id":2,"rpc":{}}\n{}', NOW + 16))
        assert opened.close_due() is None

    def test_expires_after_the_grace(self) -> None:
        """25 s after the token ran out: 3005."""
        opened = connected(SessionLimits(ping_seconds=1e6), expires_at=NOW + 100)
        assert NOW + 125 == opened.deadline()
        opened.elapse(NOW + 124.9)
        assert opened.close_due() is None
        opened.elapse(NOW + 125)

        assert Disconnects.EXPIRED == opened.close_due()

    def test_is_closed_when_idle(self) -> None:
        """With 3000 and a reason, after the last command."""
        opened = connected(SessionLimits(ping_seconds=1e6, idle_seconds=100))
        opened.receive(b'{"id":2,"rpc":{}}', NOW + 50)
        opened.elapse(NOW + 149.9)
        assert opened.close_due() is None
        assert NOW + 150 == opened.deadline()
        opened.elapse(NOW + 150)

        assert Disconnects.IDLE == opened.close_due()
        assert (3000, "idle for too long") == (Disconnects.IDLE.code, Disconnects.IDLE.reason)

    def test_a_pong_is_no_activity(self) -> None:
        """A client that only answers pings is idle."""
        opened = connected(SessionLimits(ping_seconds=60, idle_seconds=100), phase=0.0)
        opened.elapse(NOW + 30)
        opened.receive(b"{}", NOW + 31)
        opened.elapse(NOW + 100)

        assert Disconnects.IDLE == opened.close_due()

    def test_a_publication_to_it_is_activity(self) -> None:
        """It counts from the last one."""
        opened = connected(SessionLimits(ping_seconds=1e6, idle_seconds=100))
        opened.elapse(NOW + 100, published_at=NOW + 60)
        assert opened.close_due() is None
        assert NOW + 160 == opened.deadline()
        opened.elapse(NOW + 160, published_at=NOW + 60)

        assert Disconnects.IDLE == opened.close_due()

    def test_idle_time_can_be_switched_off(self) -> None:
        """Zero is no limit."""
        opened = connected(SessionLimits(ping_seconds=1e12, idle_seconds=0))
        opened.elapse(NOW + 1e9)

        assert opened.close_due() is None

    def test_nothing_is_due_once_closed(self) -> None:
        """Whatever the time."""
        opened = connected()
        opened.close(Disconnects.SHUTDOWN)
        opened.elapse(NOW + 1e9)

        assert math.inf == opened.deadline()
        assert Disconnects.SHUTDOWN == opened.close_due()
        assert b"" == opened.frames_to_send()
