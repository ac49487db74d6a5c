"""A client of the service, from before a switch until after it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from deploytool.model.observations import Unseen
from deploytool.probes.client import open_client
from deploytool.probes.errors import explain
from deploytool.probes.running import run
from deploytool.rollout.errors import PhaseError, TransientError
from deploytool.rollout.ports import Client, Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from websockets.sync.client import ClientConnection

    from deploytool.probes.address import Address
    from deploytool.probes.client import ProbeClient

__all__ = ("Pass", "SmokeClient")

_SECONDS: Final = 20.0
_OPEN_SECONDS: Final = 5.0
_RECEIVE_SECONDS: Final = 5.0
_FAILURES: Final = (OSError, EOFError, WebSocketException)
_NOBODY: Final = frozenset({502, 504})
_BEFORE: Final = {"probe": "before the switch"}
_FIRST: Final = {"probe": "first"}
_MISSED: Final = {"probe": "missed"}


@dataclass(frozen=True, slots=True)
class Pass:
    """Tokens for one channel of our own.

    Attributes:
        connection: To connect with.
        subscription: To subscribe with.
    """

    channel: str
    connection: str
    subscription: str

    @override
    def __repr__(self) -> str:
        return f"Pass({self.channel!r})"


class SmokeClient(Client):
    """By the public address, as clients come.

    Args:
        address: Where.
        issue: Has tokens made.
    """

    def __init__(self, address: Address, issue: Callable[[], Pass]) -> None:
        self._address = address
        self._issue = issue
        self._held: ClientConnection | None = None
        self._opened = ExitStack()

    @override
    def hold(self) -> None:
        self.close()
        token = self._issue().connection
        try:
            self._held = self._opened.enter_context(self._open())
            self._held.send(json.dumps({"id": 1, "connect": {"token": token}}))
            self._held.recv(timeout=_OPEN_SECONDS)
        except _FAILURES as error:
            raise TransientError(str(explain(error, self._address.url))) from error

    @override
    def is_held(self) -> bool:
        if self._held is None:
            return False
        try:
            while True:
                if self._held.recv(timeout=0.0) == "{}":
                    self._held.send("{}")
        except TimeoutError:
            return True
        except ConnectionClosed:
            return False

    @override
    def knock(self) -> bool:
        try:
            with self._open():
                return True
        except InvalidStatus as error:
            if error.response.status_code in _NOBODY:
                raise TransientError(f"{self._address.url} answered {error.response.status_code}") from error
            return False
        except _FAILURES as error:
            raise TransientError(str(explain(error, self._address.url))) from error

    def _open(self) -> Any:  # noqa: ANN401 - a context, whatever its class is called
        address = self._address
        tls: dict[str, Any] = {"ssl": address.context(), "server_hostname": address.host} if address.is_tls else {}
        return connect(
            address.url,
            sock=socket.create_connection(address.target, timeout=_OPEN_SECONDS),
            open_timeout=_OPEN_SECONDS,
            close_timeout=_OPEN_SECONDS,
            ping_interval=None,
            compression=None,
            proxy=None,
            user_agent_header="deploytool",
            **tls,
        )

    @override
    def mark(self) -> Mark:
        known = self._issue()
        offset, epoch = self._tried(partial(_publish_mark, self._address, known))
        return Mark(known.channel, offset, epoch, known)

    @override
    def smoke(self, mark: Mark | None) -> tuple[str, str]:
        known = self._issue()
        instance, note = self._tried(partial(_serve, self._address, known))
        if mark is not None and isinstance(mark.token, Pass):
            note = f"{note}; {self._tried(partial(_recover_mark, self._address, mark.token, mark))}"
        return instance, note

    def _tried(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the work returns
        found = run(work, self._address, _SECONDS)
        if isinstance(found, Unseen):
            raise TransientError(found.why)
        if isinstance(found, _Wrong):
            raise PhaseError(found.text)
        return found

    @override
    def close(self) -> None:
        self._held = None
        self._opened.close()


@dataclass(frozen=True, slots=True)
class _Wrong:
    """The service does something else than it should."""

    text: str


class _WrongError(Exception):
    """As `_Wrong`, on its way up."""


async def _publish_mark(address: Address, known: Pass) -> Any:  # noqa: ANN401 - position, or what is wrong
    try:
        async with open_client(address) as client:
            await _connect(client, known)
            await _subscribe(client, known)
            before = await _position(client, known)
            await _ask(client, "publish", {"channel": known.channel, "data": _BEFORE})
            return before
    except _WrongError as error:
        return _Wrong(str(error))


async def _serve(address: Address, known: Pass) -> Any:  # noqa: ANN401 - instance and note, or what is wrong
    """Connect, subscribe, publish, receive; miss a publication, come back, and recover it."""
    came_back = asyncio.Event()

    def note(data: object) -> None:
        if data == _FIRST:
            came_back.set()

    try:
        async with open_client(address, on_publication=note) as client:
            instance = client.instance
            await _connect(client, known)
            subscribed = await _subscribe(client, known)
            await _ask(client, "publish", {"channel": known.channel, "data": _FIRST})
            position = await _position(client, known)
            try:
                async with asyncio.timeout(_RECEIVE_SECONDS):
                    await came_back.wait()
            except TimeoutError:
                return _Wrong("a publication did not come back to its subscriber")
        async with open_client(address) as client:
            await _connect(client, known)
            await _subscribe(client, known)
            await _ask(client, "publish", {"channel": known.channel, "data": _MISSED})
        if not subscribed.get("recoverable"):
            return instance, "connected, subscribed, published, received"
        async with open_client(address) as client:
            await _connect(client, known)
            again = await _subscribe(client, known, position)
            if not again.get("recovered") or [one.get("data") for one in again.get("publications", ())] != [_MISSED]:
                return _Wrong("a publication that was missed was not recovered")
    except _WrongError as error:
        return _Wrong(str(error))
    return instance, "connected, subscribed, published, received, recovered"


async def _recover_mark(address: Address, known: Pass, mark: Mark) -> Any:  # noqa: ANN401 - a note, or what is wrong
    try:
        async with open_client(address) as client:
            await _connect(client, known)
            again = await _subscribe(client, known, (mark.offset, mark.epoch))
    except _WrongError as error:
        return _Wrong(str(error))
    if not again.get("recovered"):
        if mark.is_durable:
            return _Wrong("what was published before the switch is lost, and history is kept in a database")
        # Said and not hidden: history in memory ends with the process.
        return "what was published before the switch is gone, and clients are told so"
    if [one.get("data") for one in again.get("publications", ())] != [_BEFORE]:
        return _Wrong("the service says that everything was recovered, and what was published before is missing")
    return "what was published before the switch was recovered"


async def _connect(client: ProbeClient, known: Pass) -> None:
    await _ask(client, "connect", {"token": known.connection})


async def _subscribe(client: ProbeClient, known: Pass, position: tuple[int, str] | None = None) -> Mapping[str, Any]:
    # Asked for even by the first: a subscription that did not ask is not told whether it could recover.
    body: dict[str, Any] = {"channel": known.channel, "token": known.subscription, "recoverable": True}
    if position is not None:
        body |= {"recover": True, "offset": position[0], "epoch": position[1]}
    return await _ask(client, "subscribe", body)


async def _position(client: ProbeClient, known: Pass) -> tuple[int, str]:
    found = await _ask(client, "history", {"channel": known.channel})
    return int(found.get("offset") or 0), str(found.get("epoch") or "")


async def _ask(client: ProbeClient, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    reply = await client.ask(method, body)
    if reply.result is None:
        raise _WrongError(f"a {method} of a good client was answered with {reply.text}")
    return reply.result
