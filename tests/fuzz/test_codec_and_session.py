from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.codes import Disconnects, rows
from service.core.session import Session, SessionLimits, State
from service.realtime.context import Call
from tests.support.client import FakeClient
from tests.support.fuzzing import FRAMES
from tests.support.world import World

PER_EXAMPLE = 25
EXAMPLES = FRAMES // PER_EXAMPLE
CHANNELS = ("kept:a", "chat:a", "seen:a", "plain:a", "checked:a", "a", "#42", "$a", "nowhere:a", "two words", "")
METHODS = (
    "connect",
    "subscribe",
    "unsubscribe",
    "publish",
    "presence",
    "presence_stats",
    "history",
    "ping",
    "send",
    "rpc",
    "refresh",
    "sub_refresh",
)
CODES = {row.code for _, row in rows(Disconnects)}

numbers = st.sampled_from([0, 1, 2, 3, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -1])
values = st.sampled_from([None, 0, 1, "", "x", True, [], {}, [[1]], {"a": {"b": None}}, 1.5, "\u2028\n"])
params = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(CHANNELS),
        "data": values,
        "token": st.sampled_from(["", "a.b.c", "TOKEN", "SUBTOKEN"]),
        "recover": st.booleans(),
        "offset": numbers,
        "epoch": st.sampled_from(["", "aaaaaaab", "another"]),
        "positioned": st.booleans(),
        "recoverable": st.booleans(),
        "join_leave": st.booleans(),
        "flag": st.sampled_from([0, 1, 2, 3]),
        "type": st.sampled_from([0, 0, 0, 1]),
        "limit": st.sampled_from([0, 1, -1, 500]),
        "since": st.fixed_dictionaries({}, optional={"offset": numbers, "epoch": st.just("aaaaaaab")}),
        "reverse": st.booleans(),
        "method": st.sampled_from(["echo", "fail", "unknown"]),
        "subs": st.dictionaries(st.sampled_from(CHANNELS), st.just({"recover": True}), max_size=2),
        "unknown": values,
    },
)
commands = st.one_of(
    st.builds(
        lambda number, method, inner: {"id": number, method: inner},
        st.integers(1, 99),
        st.sampled_from(METHODS),
        params,
    ),
    st.builds(lambda inner: {"send": inner}, params),
    st.builds(lambda number, method, inner: {"id": number, method: inner}, numbers, st.sampled_from(METHODS), values),
    st.just({}),
)
valid_frames = st.lists(commands, min_size=1, max_size=4).map(
    lambda lines: b"\n".join(json.dumps(line).encode() for line in lines)
)


def mutate(frame: bytes, at: int, change: int, inserted: bytes) -> bytes:
    """Change one place: cut it off there, drop, double or overwrite what stands there."""
    place = at % (len(frame) + 1)
    head, tail = frame[:place], frame[place:]
    return (head, head + tail[1:], head + tail[:3] + tail, head + inserted + tail, head + inserted + tail[1:])[change]


mutated = st.builds(
    mutate,
    valid_frames,
    st.integers(0, 400),
    st.integers(0, 4),
    st.sampled_from([b"\n", b"{", b"}", b"[" * 200, b'"', b"\\", b"\x00", b"\xff", b",", b"1e999", b"null", b" "]),
)
# Half of what comes is well formed, so that a connection gets somewhere before it breaks.
frames = st.one_of(
    valid_frames,
    valid_frames,
    valid_frames,
    mutated,
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
)
streams = st.lists(frames, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE)
fuzzing = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))

pytestmark = pytest.mark.timeout(1200)


def read(payload: bytes) -> list[dict[str, Any]]:
    """Decode what a client was sent; every line has to be an object."""
    lines = [json.loads(line) for line in payload.split(b"\n")]
    assert all(isinstance(line, dict) for line in lines)
    return lines


class TestSession:
    """The protocol state by itself."""

    def test_survives_whatever_comes(self) -> None:
        """Never raises, ends in a state that the protocol knows, and stays closed once it is."""
        tried = 0

        @fuzzing
        @given(streams, st.booleans())
        def run(stream: list[bytes], is_connected: bool) -> None:  # noqa: FBT001 - drawn
            nonlocal tried
            tried += len(stream)
            check_session(stream, is_connected=is_connected)

        run()
        print(f"{tried} frames into a session")  # noqa: T201 - shown with -s, and when it fails

        assert tried >= FRAMES


def check_session(stream: list[bytes], *, is_connected: bool) -> None:
    """Feed a session, answering what it asks, while time passes."""
    session = Session(SessionLimits(commands_per_frame=3), "client", now=0.0, phase=0.5)
    if is_connected:
        (request,) = session.receive(b'{"id":1,"connect":{}}', 0.0)
        session.accept(request, "42", b"{}", expires_at=math.inf, now=0.0)
    for number, frame in enumerate(stream):
        before = session.state
        for request in session.receive(frame, float(number)):
            assert before is not State.CLOSED
            assert request.id > 0 or request.method == "send"
            if request.method == "connect":
                session.accept(request, "42", b"{}", expires_at=math.inf, now=float(number))
            elif request.refusal is not None:
                session.reject(request, request.refusal)
            else:
                session.reply(request)
        session.elapse(float(number))
        payload = session.frames_to_send()
        if payload:
            read(payload)
        why = session.close_due()
        assert (why is not None) is (session.state is State.CLOSED)
        assert list(State).index(session.state) >= list(State).index(before)
        if why is not None:
            assert why.code in CODES
            assert 1 <= len(why.reason.encode()) <= 123
            assert math.inf == session.deadline()


class TestConnection:
    """A whole connection in a world with others."""

    def test_survives_whatever_comes(self) -> None:
        """Closes itself at most, answers JSON alone, and leaves nothing in any table."""
        tried = 0

        @fuzzing
        @given(streams, st.booleans(), st.booleans(), st.lists(st.sampled_from([0.0, 1.0, 30.0]), max_size=5))
        def run(stream: list[bytes], is_connected: bool, waits: bool, pauses: list[float]) -> None:  # noqa: FBT001 - drawn
            nonlocal tried
            tried += len(stream)
            check_connection(stream, is_connected=is_connected, waits=waits, pauses=pauses)

        run()
        print(f"{tried} frames into a connection")  # noqa: T201 - shown with -s, and when it fails

        assert tried >= FRAMES


def check_connection(stream: list[bytes], *, is_connected: bool, waits: bool, pauses: list[float]) -> None:
    """Feed a connection; a new one takes the place of each that was closed, so that every frame counts."""
    world = prepared()
    world.connected("bystander").subscribe("seen:a")
    tokens = {
        b"SUBTOKEN": world.token("42", channel="$a").encode(),
        b"TOKEN": world.token("42", seconds=60.0, channels=["kept:b"]).encode(),
    }
    client = begin(world, is_connected=is_connected)
    for number, frame in enumerate(stream):
        for name, token in tokens.items():
            frame = frame.replace(name, token)  # noqa: PLW2901 - the frame as it is sent
        if client.transport.closed is not None:
            client = begin(world, is_connected=is_connected)
        client.send_raw(frame)
        go_on(world, number, waits=waits, pauses=pauses)
        check(world, client)
    for left in list(world.hub.connections.values()):
        left.lost()
    world.streams.reads.open()
    world.settle()

    world.assert_empty()


def go_on(world: World, number: int, *, waits: bool, pauses: list[float]) -> None:
    """Let the store wait or go on, publish something, and let time pass, each now and then."""
    if waits and number % 3 == 0:
        world.streams.reads.close()
    if number % 7 == 0:
        world.publish("kept:a")
    if number % 3 == 1:
        world.streams.reads.open()
        world.settle()
    if pauses and number % 5 == 0:
        world.advance(pauses[number % len(pauses)])


def prepared() -> World:
    """Return a world with tight limits and something to call."""
    world = World(
        sessions=SessionLimits(commands_per_frame=3),
        channels_per_client=4,
        messages_per_minute=20,
        commands_per_minute=20,
        refusals_per_minute=5,
        personal_channels=True,
    )

    async def echo(call: Call) -> bytes:
        return call.data

    async def take(call: Call) -> None:
        assert call.client

    world.procedures.methods["echo"] = echo
    world.procedures.on_send = take
    return world


def begin(world: World, *, is_connected: bool) -> FakeClient:
    """Open the next connection; its connect may have to wait."""
    client = world.client()
    if is_connected:
        client.ask("connect", token=world.token("42"))
    return client


def check(world: World, client: FakeClient) -> None:
    """Assert what must hold between any two frames."""
    world.assert_sound()
    while client.transport.frames:
        for payload in client.transport.payloads:
            read(payload)
        client.transport.frames.clear()
    if client.transport.closed is not None:
        code, reason = client.transport.closed
        assert code in CODES
        assert code != Disconnects.INTERNAL_ERROR.code
        assert reason
        assert client.id not in world.hub.connections
