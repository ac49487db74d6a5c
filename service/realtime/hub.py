"""The one owner of connections, subscriptions and presence in this process.

Synchronous throughout: nothing awaits between reading and changing its tables, so
no lock is needed. Event loop only.

Publications of one loop tick are joined into one frame a channel, built once, and
the same bytes are written to every member's transport. A member that joined at an
offset, or in the middle of a tick, gets its first frame built for itself alone, so that nothing
at or below its offset reaches it again; from then on it shares the common bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from service.core import codec
from service.core.codes import Disconnects
from service.core.frames import text_frame
from service.core.session import State
from service.core.tenure import Tenure
from service.realtime.ports import Broker, Event, EventKind, Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from service.core.namespaces import Channel
    from service.core.stream import Position
    from service.realtime.connection import Connection

__all__ = ("Hub", "Member", "Room", "Watch")

MAX_FRAME_BYTES = 256 * 1024
"""Longest frame that is built of several publications; a single longer one goes alone."""

_MAX_HELD = 1024


class Member:
    """One connection in one channel: a subscription.

    Attributes:
        chan_info: Raw JSON from the subscription token; None for none.
        expires_at: Monotonic seconds; infinity for never.
        is_positioned: Whether a gap ends the subscription, so that the client recovers.
        is_recoverable: Whether the client may ask for what it missed when it comes back.
        is_announced: Whether others are told that it came and went.
        is_present: Whether presence shows it.
        wants_joins: Whether joins and leaves are pushed to it.
        by_server: Whether the server subscribed it; such a subscription cannot be refreshed by the client.
        offset: Publications up to here were in the reply and are not sent.
        skip: Lines of the current tick that were there before it joined.
        held: What came during the join; None once it has joined.
    """

    __slots__ = (
        "by_server",
        "chan_info",
        "connection",
        "expires_at",
        "held",
        "is_announced",
        "is_positioned",
        "is_present",
        "is_recoverable",
        "offset",
        "room",
        "skip",
        "wants_joins",
    )

    def __init__(
        self, connection: Connection, room: Room, *, chan_info: bytes | None, expires_at: float, by_server: bool
    ) -> None:
        self.connection = connection
        self.room = room
        self.chan_info = chan_info
        self.expires_at = expires_at
        self.by_server = by_server
        self.is_positioned = False
        self.is_recoverable = False
        self.is_announced = False
        self.is_present = False
        self.wants_joins = False
        self.offset = 0
        self.skip = 0
        self.held: list[Event] | None = []

    @property
    def has_joined(self) -> bool:
        """Whether the subscribe was answered; before that it counts for limits alone."""
        return self.held is None

    def info(self) -> bytes:
        """Describe the member as presence, join and leave show it."""
        connection = self.connection
        return codec.client_info(connection.user, connection.client, connection.info, self.chan_info)


class Room:
    """The members of one channel; exists while there is one.

    Attributes:
        joining: Waiting for their history; they hold what comes.
        late: Joined ahead of ``offset`` or within a tick; their next frame is their own.
        plain: Get publications.
        watching: Get publications, joins and leaves.
        offset: Of the newest publication that came, 0 before the first.
        published_at: Monotonic seconds of the last publication sent; 0 for none.
    """

    __slots__ = (
        "channel",
        "epoch",
        "joining",
        "late",
        "lines",
        "offset",
        "plain",
        "prefix",
        "published_at",
        "watching",
    )

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.prefix = b'{"push":{"channel":%b,' % codec.quote(channel.name)
        self.joining: dict[Connection, Member] = {}
        self.late: dict[Connection, Member] = {}
        self.plain: dict[Connection, Member] = {}
        self.watching: dict[Connection, Member] = {}
        # (offset, whether it is a publication, encoded push)
        self.lines: list[tuple[int, bool, bytes]] = []
        self.offset = -1
        self.epoch = ""
        self.published_at = 0.0

    @property
    def name(self) -> str:
        """Name of the channel."""
        return self.channel.name

    def __len__(self) -> int:
        return len(self.plain) + len(self.watching) + len(self.late)

    def members(self) -> Iterator[Member]:
        """Yield those who have joined."""
        yield from self.late.values()
        yield from self.plain.values()
        yield from self.watching.values()


class Watch(Protocol):
    """Who is told of memberships, at once and in order."""

    def began(self, member: Member) -> None:
        """Take note of a membership, joined or joining."""
        ...

    def ended(self, member: Member) -> None:
        """Take note of its end."""
        ...


class Hub:
    """Who is connected, and who listens to what.

    Args:
        soon: Calls a function once, later in this tick of the loop (``loop.call_soon``).
        now: Monotonic seconds.
        tenure: Asked before anything is delivered; for ever unless told otherwise.
    """

    def __init__(
        self,
        *,
        soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
        observer: Observer,
        tenure: Tenure | None = None,
    ) -> None:
        self._soon = soon
        self._now = now
        self._observer = observer
        self._may_deliver = (tenure or Tenure.always()).holds
        self._broker: Broker | None = None
        self._watch: Watch | None = None
        self.connections: dict[str, Connection] = {}
        self.users: dict[str, dict[Connection, None]] = {}
        self.addresses: dict[str, int] = {}
        self.rooms: dict[str, Room] = {}
        self.subscriptions = 0
        self.unauthenticated = 0
        self._dirty: dict[Room, None] = {}
        self._overfull: dict[Connection, None] = {}

    def use(self, broker: Broker) -> None:
        """Send joins and leaves through ``broker``; it delivers to this hub, so it is made after it."""
        self._broker = broker

    def watch(self, watch: Watch) -> None:
        """Tell ``watch`` of every membership from now on."""
        self._watch = watch

    # Connections.

    def add(self, connection: Connection) -> None:
        """Take in a connection that has not said who it is."""
        self.connections[connection.client] = connection
        self.unauthenticated += 1
        self.addresses[connection.address] = self.addresses.get(connection.address, 0) + 1

    def authenticate(self, connection: Connection) -> None:
        """Note the user of a connection."""
        self.unauthenticated -= 1
        self.users.setdefault(connection.user, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection and everything it was in; idempotent."""
        if self.connections.pop(connection.client, None) is None:
            return
        self._overfull.pop(connection, None)
        self.addresses[connection.address] -= 1
        if not self.addresses[connection.address]:
            del self.addresses[connection.address]
        mine = self.users.get(connection.user)
        if mine is not None and connection in mine:
            del mine[connection]
            if not mine:
                del self.users[connection.user]
        else:
            self.unauthenticated -= 1
        for member in list(connection.memberships.values()):
            self.leave(member)

    def of_user(self, user: str, *, client: str = "") -> list[Connection]:
        """Return the connections of a user that are past their connect, or the one of them that ``client`` names."""
        return [
            item
            for item in self.users.get(user, ())
            if client in ("", item.client) and item.session.state is State.CONNECTED
        ]

    def note_overfull(self, connection: Connection) -> None:
        """Look at a connection before the next write: it may be slow."""
        self._overfull[connection] = None

    def send_all_away(self) -> None:
        """Close every connection so that it comes back, and deliver nothing of what is still held."""
        for room in self.rooms.values():
            room.lines = []
        self._dirty.clear()
        for connection in list(self.connections.values()):
            connection.abandon(Disconnects.SHUTDOWN)

    # Membership.

    def begin(
        self,
        connection: Connection,
        channel: Channel,
        *,
        chan_info: bytes | None = None,
        expires_at: float,
        by_server: bool = False,
    ) -> Member:
        """Start a join: from here on, what comes in the channel is held back for this member."""
        room = self.rooms.get(channel.name)
        if room is None:
            room = self.rooms[channel.name] = Room(channel)
        member = Member(connection, room, chan_info=chan_info, expires_at=expires_at, by_server=by_server)
        room.joining[connection] = member
        connection.memberships[channel.name] = member
        self.subscriptions += 1
        if self._watch is not None:
            self._watch.began(member)
        return member

    def complete(self, member: Member, position: Position) -> None:
        """End a join at the position that the reply names; call it when the reply is written."""
        room = member.room
        del room.joining[member.connection]
        member.held = None
        member.offset = position.offset
        if room.offset < 0:
            room.offset, room.epoch = position.offset, position.epoch
        if room.lines or position.offset > room.offset:
            member.skip = len(room.lines)
            room.late[member.connection] = member
        else:
            self._group(member)[member.connection] = member
        if member.is_announced:
            self._announce(EventKind.JOIN, member)

    def leave(self, member: Member) -> None:
        """End a membership, joined or not; idempotent."""
        connection, room = member.connection, member.room
        if connection.memberships.get(room.name) is not member:
            return
        if room.lines and member.has_joined:
            # What was published while it was a member is still its own.
            self._flush_room(room)
        del connection.memberships[room.name]
        for group in (room.joining, room.late, room.plain, room.watching):
            group.pop(connection, None)
        self.subscriptions -= 1
        if self._watch is not None:
            self._watch.ended(member)
        if member.has_joined and member.is_announced:
            self._announce(EventKind.LEAVE, member)
        if not room.joining and not len(room):
            del self.rooms[room.name]
            self._dirty.pop(room, None)

    def _group(self, member: Member) -> dict[Connection, Member]:
        return member.room.watching if member.wants_joins else member.room.plain

    def _announce(self, kind: EventKind, member: Member) -> None:
        room, broker = member.room, self._broker
        if broker is not None and (room.watching or room.late or broker.reaches_others):
            broker.publish(Event(kind, member.room.name, 0, "", member.info()))

    # Delivery.

    def deliver(self, event: Event) -> None:
        """Take an event from the broker; members get it at the end of this tick."""
        room = self.rooms.get(event.channel)
        if room is None:
            return
        if event.kind is EventKind.PUBLICATION:
            self._hold(room, event)
            if event.offset and not self._follows(room, event):
                return
            line = room.prefix + b'"pub":' + event.body + b"}}"
        else:
            if not room.watching and not room.late:
                return
            kind = b'"join"' if event.kind is EventKind.JOIN else b'"leave"'
            line = room.prefix + kind + b':{"info":' + event.body + b"}}}"
        if not len(room):
            return
        room.lines.append((event.offset, event.kind is EventKind.PUBLICATION, line))
        if not self._dirty:
            self._soon(self.flush)
        self._dirty[room] = None

    def _hold(self, room: Room, event: Event) -> None:
        for member in list(room.joining.values()):
            if member.held is not None and len(member.held) < _MAX_HELD:
                member.held.append(event)
            else:
                member.connection.overrun(member)

    def _follows(self, room: Room, event: Event) -> bool:
        """Whether a publication is the next one; ends positioned memberships when some are missing."""
        if room.offset < 0:
            # Nobody has joined yet: those who are about to will read it from the stream.
            return False
        if event.epoch == room.epoch:
            if event.offset <= room.offset:
                return False
            if event.offset == room.offset + 1:
                room.offset = event.offset
                return True
        self._flush_room(room)
        room.offset, room.epoch = event.offset, event.epoch
        for member in list(room.members()):
            if member.is_positioned:
                member.connection.lost_position(member)
        return True

    def flush(self) -> None:
        """Write what came in this tick."""
        for connection in list(self._overfull):
            del self._overfull[connection]
            if connection.transport.is_over_limit():
                connection.close(Disconnects.SLOW)
        dirty, self._dirty = self._dirty, {}
        for room in dirty:
            self._flush_room(room)

    def _flush_room(self, room: Room) -> None:
        lines, room.lines = room.lines, []
        # Compared here, right before the bytes go out: a process that was stopped for a while goes on at any line.
        if not lines or not self._may_deliver():
            return
        if any(line[1] for line in lines):
            room.published_at = self._now()
        pushes = [line for _, is_publication, line in lines if is_publication]
        self._write(room.plain, pushes)
        if room.watching:
            self._write(room.watching, pushes if len(pushes) == len(lines) else [line for _, _, line in lines])
        if room.late:
            self._flush_late(room, lines)

    def _flush_late(self, room: Room, lines: list[tuple[int, bool, bytes]]) -> None:
        for connection, member in list(room.late.items()):
            own = [
                line
                for offset, is_publication, line in lines[member.skip :]
                if (offset == 0 or offset > member.offset) and (is_publication or member.wants_joins)
            ]
            member.skip = 0
            self._write({connection: member}, own)
            if room.offset >= member.offset:
                del room.late[connection]
                self._group(member)[connection] = member

    def _write(self, members: Mapping[Connection, Member], lines: list[bytes]) -> None:
        if not lines or not members:
            return
        for payload, count in _payloads(lines):
            frame = text_frame(payload)
            for connection in members:
                connection.write(frame)
            self._observer.delivered(count * len(members), len(frame))

    # Who is there.

    def presence(self, name: str) -> dict[str, bytes]:
        """Return the encoded info of every member of a channel, by client."""
        room = self.rooms.get(name)
        return {member.connection.client: member.info() for member in _present(room)}

    def presence_stats(self, name: str) -> tuple[int, int]:
        """Return how many clients and how many different users are in a channel."""
        present = list(_present(self.rooms.get(name)))
        return len(present), len({member.connection.user for member in present})


def _present(room: Room | None) -> Iterator[Member]:
    return (member for member in room.members() if member.is_present) if room is not None else iter(())


def _payloads(lines: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Join lines into payloads that stay below the longest frame, each with how many lines it holds."""
    if len(lines) == 1:
        yield lines[0], 1
        return
    start = size = 0
    for index, line in enumerate(lines):
        if size and size + len(line) > MAX_FRAME_BYTES:
            yield b"\n".join(lines[start:index]), index - start
            start, size = index, 0
        size += len(line) + 1
    yield b"\n".join(lines[start:]), len(lines) - start
