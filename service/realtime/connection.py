"""One WebSocket: a session, a transport, and what the connection is a member of.

The transport calls `receive` and `lost`; the hub and the server API call the rest.
Commands of one connection are decided one after the other. A command that has to wait
goes on in a task, and nothing more is read from the peer until it is done.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from service.auth.policy import organization_of
from service.core import codec
from service.core.codes import Disconnects, Errors, Unsubscribes
from service.core.frames import text_frame
from service.core.session import Session, State
from service.realtime.commands import COMMANDS, COUNTED
from service.realtime.steps import DONE, first_step, rest

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from service.core.codes import Disconnect, Unsubscribe
    from service.core.messages import Request
    from service.core.namespaces import Channel
    from service.realtime.context import Context
    from service.realtime.hub import Member
    from service.realtime.ports import Transport

__all__ = ("Connection",)

_FLUSH_BYTES: Final = 64 * 1024
"""Answers of one message that are gathered before they are written."""


class Connection:
    """The I/O side of one client; owner of its session and its memberships.

    Attributes:
        write: Of the transport, kept at hand since the hub calls it for every delivery.
        info: Raw JSON from the connection token; None for none.
        memberships: By channel, those that are still joining too.
        namespaces: The only ones whose channels it may touch, as its token says; None for all.
        organization: The only one whose channels it may touch, as its token says; None for no such limit.
        address: Of the client, for limits; empty when unknown.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_is_busy",
        "_is_stalled",
        "_waiting",
        "address",
        "info",
        "memberships",
        "namespaces",
        "organization",
        "session",
        "transport",
        "write",
    )

    def __init__(self, context: Context, transport: Transport, *, address: str = "") -> None:
        now = context.clock.now()
        self._context = context
        self._is_busy = False
        self._is_stalled = False
        self._waiting: deque[Request] | None = None
        self.session = Session(context.limits.session, context.ids.uuid(), now=now, phase=context.ids.fraction())
        self.transport = transport
        self.write = transport.write
        self.address = address
        self.info: bytes | None = None
        self.memberships: dict[str, Member] = {}
        self.namespaces: frozenset[str] | None = None
        self.organization: str | None = None
        context.hub.add(self)
        context.observer.connection_opened()
        self.reschedule()

    @property
    def client(self) -> str:
        """Identity of the connection."""
        return self.session.client

    @property
    def user(self) -> str:
        """Who it belongs to; empty before connect and for an anonymous one."""
        return self.session.user

    @property
    def is_confined(self) -> bool:
        """Whether its token is for some channels alone, and so not for the application."""
        return self.namespaces is not None or self.organization is not None

    def reaches(self, channel: Channel) -> bool:
        """Whether its token is for this channel too."""
        if self.namespaces is not None and channel.namespace.name not in self.namespaces:
            return False
        return self.is_open_to(channel)

    def is_open_to(self, channel: Channel) -> bool:
        """Whether the organization that it is for, if any, has this channel."""
        return self.organization is None or organization_of(channel) == self.organization

    # From the transport.

    def receive(self, message: bytes) -> None:
        """Take in a text message; UTF-8, already checked."""
        requests = self.session.receive(message, self._context.clock.now())
        if self._is_busy:
            # Reading is paused, but what had come before the pause is still handed in.
            self._waiting = self._waiting or deque()
            self._waiting.extend(requests)
        elif requests:
            self._work(deque(requests))
        self.flush()

    def receive_binary(self) -> None:
        """Take in a binary message, which no codec here understands."""
        self.session.receive_binary()
        self.flush()

    def lost(self) -> None:
        """The socket is gone."""
        self._end(None)

    def overfull(self) -> None:
        """More than the send buffer's limit is waiting; unless that changes by the next tick, the client is slow."""
        self._context.hub.note_overfull(self)

    # Commands.

    def drained(self) -> None:
        """The transport has room again: go on with what waited for that; idempotent."""
        if self._is_stalled:
            self._is_stalled = False
            self._go_on()

    def _work(self, queue: deque[Request]) -> None:
        """Decide commands in their order, as far as none has to wait and the peer takes the answers."""
        while queue and self.session.state is not State.CLOSED:
            work = self._decide(queue.popleft())
            awaited = first_step(work)
            if awaited is not DONE:
                self._park(queue)
                self._context.tasks.spawn(self._finish(rest(work, awaited)))
                return
            if queue and self._must_hold():
                self._park(queue)
                self._is_stalled = True
                return

    async def _finish(self, step: Awaitable[None]) -> None:
        await step
        self.flush()
        if self._waiting and self.transport.is_over_limit():
            # As in `_work`: the answer to this one is to be taken before the next is decided.
            self._is_stalled = True
            return
        self._go_on()

    def _must_hold(self) -> bool:
        """Whether the peer has to take answers first: one small message can ask for many large ones."""
        if self.session.pending_bytes < _FLUSH_BYTES:
            return False
        self.flush()
        return self.transport.is_over_limit()

    def _park(self, queue: deque[Request]) -> None:
        self._is_busy = True
        self._waiting = queue
        self.transport.pause_reading()

    def _go_on(self) -> None:
        queue, self._waiting = self._waiting, None
        self._is_busy = False
        self._work(queue or deque())
        self.flush()
        if not self._is_busy:
            self.transport.resume_reading()

    async def _decide(self, request: Request) -> None:
        context = self._context
        context.observer.command(request.method)
        try:
            if request.method != "connect" and self.session.state is not State.CONNECTED:
                # Its connect was refused; what a client sent behind it is not done for nobody.
                self.reject(request, Errors.UNAUTHORIZED)
                return
            if self._is_limited(request):
                return
            if request.refusal is not None:
                self.reject(request, request.refusal)
                return
            await COMMANDS[request.method](context, self, request)
        except Exception as error:  # noqa: BLE001 - the root of a command: a defect of ours ends this connection alone
            context.observer.failed(f"command {request.method}", error)
            self.close(Disconnects.INTERNAL_ERROR)

    def _is_limited(self, request: Request) -> bool:
        """Refuse what comes too often. Connect is bounded by the limits on connections."""
        if request.method == "connect":
            return False
        context, now = self._context, self._context.clock.now()
        is_message = request.method in COUNTED
        limit = context.messages if is_message else context.commands
        # The count is the user's, so that connecting again does not begin a new one.
        key = self.user or self.client
        if self.organization is not None:
            # An organization's key may make tokens for any user that it makes a member: it counts for itself.
            key = f"{self.organization}/{key}"
        if limit.allow(key, now):
            return False
        context.observer.limited("messages_per_minute" if is_message else "commands_per_minute")
        self.reject(request, Errors.TOO_MANY_REQUESTS)
        most = context.limits.refusals_per_minute
        if most and context.refusals.count(key, now) >= most:
            self.close(Disconnects.TOO_MANY_REQUESTS)
        return True

    def reject(self, request: Request, error: object) -> None:
        """Refuse a command, and count it."""
        self._context.observer.error(request.method, error)  # type: ignore[arg-type]  # a request that is refused has its error
        self.session.reject(request, error)  # type: ignore[arg-type]  # a request that is refused has its error

    # From the hub and the server API.

    def push(self, line: bytes) -> None:
        """Send an encoded push to this connection alone."""
        self.session.push(line)
        self.flush()

    def unsubscribe(self, member: Member, why: Unsubscribe) -> None:
        """End a subscription from the server's side and tell the client."""
        self._context.hub.leave(member)
        self.push(codec.unsubscribe_push(member.room.name, why))

    def lost_position(self, member: Member) -> None:
        """A publication is missing: make the client recover."""
        if member.by_server:
            self.close(Disconnects.INSUFFICIENT_STATE)
        else:
            self.unsubscribe(member, Unsubscribes.INSUFFICIENT_STATE)

    def overrun(self, member: Member) -> None:
        """More came during a join than is held back: the subscribe is refused, and the client tries again."""
        self._context.hub.leave(member)

    def close(self, why: Disconnect) -> None:
        """End the connection with a code, behind everything that was sent to it; idempotent."""
        self.session.close(why)
        self.flush()

    def abandon(self, why: Disconnect) -> None:
        """End the connection with a code, and send nothing of what is held for it; idempotent."""
        self.session.frames_to_send()
        self.close(why)

    # Time.

    def elapse(self) -> None:
        """Do what is due now, and say when to look again."""
        now = self._context.clock.now()
        for member in list(self.memberships.values()):
            if now >= member.expires_at + self._context.limits.session.grace_seconds:
                if member.by_server:
                    self.session.close(Disconnects.SUBSCRIPTION_EXPIRED)
                else:
                    self.unsubscribe(member, Unsubscribes.EXPIRED)
        published_at = max((member.room.published_at for member in self.memberships.values()), default=0.0)
        self.session.elapse(now, published_at=published_at)
        if not self.transport.is_over_limit():
            self.drained()
        self.flush()
        self.reschedule()

    def reschedule(self) -> None:
        """Put the connection where the wheel finds it next."""
        grace = self._context.limits.session.grace_seconds
        deadline = min(
            (member.expires_at + grace for member in self.memberships.values()), default=self.session.deadline()
        )
        self._context.wheel.schedule(self, min(deadline, self.session.deadline()))

    # The end.

    def flush(self) -> None:
        """Write what the session holds, and close when it says so."""
        payload = self.session.frames_to_send()
        if payload:
            # Answers may hold publications, so they go out in our own time alone.
            if self._context.may_serve():
                self.write(text_frame(payload))
            else:
                self.session.close(Disconnects.SHUTDOWN)
        why = self.session.close_due()
        if why is not None:
            self.transport.close(why.code, codec.disconnect_reason(why))
            self._end(why)

    def _end(self, why: Disconnect | None) -> None:
        context = self._context
        if context.hub.connections.get(self.client) is not self:
            return
        self.session.close(why or Disconnects.CONNECTION_CLOSED)
        context.wheel.remove(self)
        context.hub.remove(self)
        if not self.user:
            for limit in (context.messages, context.commands, context.refusals):
                limit.forget(self.client)
        context.observer.connection_closed(why, context.clock.now() - self.session.opened_at)
