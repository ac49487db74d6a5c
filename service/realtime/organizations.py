"""Organizations in memory: who is a member, how much they may do, and how much they do.

An organization is read once, by one read for all who ask at that time, and the keys of
all organizations likewise. From then on everything is decided here without asking the
database, since nobody else changes it: a change is committed first and made here next, one
after the other. Where it is not known whether a change was committed, what is in memory
is dropped and read again, behind that change.

Nothing here knows HTTP, and of a channel no more than whose it is.
"""

from __future__ import annotations

import asyncio
import enum
import math
from bisect import bisect_right
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from service.auth.api_keys import ApiKeyFault, Caller, parse_organization_key
from service.auth.policy import organization_of
from service.clock import Clock, SystemClock
from service.core.codes import Error, Errors, Unsubscribes
from service.core.organizations import ApiKeyRecord, MemberRecord, Organization, Role, is_id
from service.errors import DatabaseError, DatabaseUnavailable, Overtaken
from service.realtime.ports import Observer
from service.realtime.shared_reads import SharedReads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from service.core.namespaces import Channel
    from service.realtime.connection import Connection
    from service.realtime.hub import Member
    from service.realtime.ports import Tasks

__all__ = (
    "OrganizationFigures",
    "OrganizationTables",
    "Organizations",
    "Place",
    "RecentCount",
    "Refusal",
    "TooMany",
)

_T = TypeVar("_T")

_MINUTE_SECONDS: Final = 60
_MAX_ABSENT: Final = 16_384
"""Ids that clients asked for in vain which are remembered; at 63 characters a name about 2 MiB."""
_ALL_KEYS: Final = ""
_USED_UP: Final = Error(
    Errors.TOO_MANY_REQUESTS.code,
    f"{Errors.TOO_MANY_REQUESTS.message}: the organization has used up its publications of this minute",
    temporary=Errors.TOO_MANY_REQUESTS.temporary,
)
_PAUSE_SECONDS: Final = 1.0


class OrganizationTables(Protocol):
    """The tables of organizations; statements and nothing else. Every method may raise a `DatabaseError`.

    What changes something is one transaction that compares ``token`` with the one in the
    table (``Overtaken``), and returns False when there was nothing to change. A row that is there
    already, or whose organization is not, is ``RowsRefused``. Instants are Unix seconds.
    """

    async def read(
        self, organization: str, *, settled: bool = False
    ) -> tuple[Organization, Sequence[MemberRecord]] | None:
        """Return an organization and its members in any order, None when there is none.

        Args:
            settled: Wait for changes under way, of this process or one before it, whose outcome is not known.
        """
        ...

    async def read_keys(self, *, settled: bool = False) -> list[ApiKeyRecord]:
        """Return the keys of all organizations, revoked ones too."""
        ...

    async def page(self, *, after: str, limit: int, prefix: str = "") -> list[Organization]:
        """Return up to ``limit`` organizations by id from the one behind ``after``, whose id begins with ``prefix``."""
        ...

    async def create(self, organization: Organization, *, token: int) -> None:
        """Add an organization without members."""
        ...

    async def change(self, organization: Organization, *, token: int) -> bool:
        """Write name, quotas and ``updated_at`` of the organization with this id."""
        ...

    async def delete(self, organization: str, *, token: int) -> bool:
        """Remove an organization, its members and its keys."""
        ...

    async def add_member(self, organization: str, member: MemberRecord, *, token: int) -> None:
        """Add a member."""
        ...

    async def change_member(self, organization: str, member: MemberRecord, *, token: int) -> bool:
        """Write the role of a member."""
        ...

    async def remove_member(self, organization: str, user: str, *, token: int) -> bool:
        """Remove a member."""
        ...

    async def add_key(self, key: ApiKeyRecord, *, token: int) -> None:
        """Add a key."""
        ...

    async def revoke_key(self, key: str, at: float, *, token: int) -> bool:
        """Write when a key was revoked."""
        ...


class Refusal(enum.Enum):
    """Why a change is not made; the value is for whoever asked."""

    EXISTS = "there is an organization with this id already"
    NO_ORGANIZATION = "there is no organization with this id"
    MEMBER_EXISTS = "this user is a member already"
    NO_MEMBER = "this user is no member"
    NO_KEY = "this organization has no key with this id"


class Place(enum.Enum):
    """A quota that has no room left; the value is its name for the observer."""

    CONNECTIONS = "organization_connections"
    CHANNELS = "organization_channels"


@dataclass(frozen=True, slots=True)
class TooMany:
    """A limit of a minute is used up.

    Attributes:
        retry_after: Whole seconds until there is room again, at least 1.
    """

    retry_after: int


class OrganizationFigures(NamedTuple):
    """How much goes on in an organization.

    Attributes:
        connections: In at least one of its channels.
        channels: That somebody is in.
        publications: Let into its channels in the last minute.
    """

    members: int
    connections: int
    channels: int
    publications: int


class RecentCount:
    """How often something happened in the last minute, to the second."""

    __slots__ = ("_seconds", "_total")

    def __init__(self) -> None:
        # [whole second, how often], oldest first
        self._seconds: deque[list[int]] = deque()
        self._total = 0

    def total(self, now: float) -> int:
        """Return how often."""
        while self._seconds and self._seconds[0][0] <= now - _MINUTE_SECONDS:
            self._total -= self._seconds.popleft()[1]
        return self._total

    def take(self, now: float, limit: int) -> TooMany | None:
        """Count once more unless ``limit`` are counted; 0 for no limit."""
        wait = self.wait(now, limit)
        if wait:
            return TooMany(wait)
        second = math.floor(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0])
        self._seconds[-1][1] += 1
        self._total += 1
        return None

    def wait(self, now: float, limit: int) -> int:
        """Return the whole seconds until fewer than ``limit`` are counted; 0 for now."""
        surplus = self.total(now) - limit
        if not limit or surplus < 0:
            return 0
        for second, count in self._seconds:
            surplus -= count
            if surplus < 0:
                return max(1, math.ceil(second + _MINUTE_SECONDS - now))
        return _MINUTE_SECONDS


@dataclass(slots=True)
class _Entry:
    """An organization in memory.

    Attributes:
        members: By user.
        users: In order; empty when they have to be sorted again.
    """

    organization: Organization
    members: dict[str, MemberRecord]
    users: list[str] = field(default_factory=list)

    def in_order(self) -> list[str]:
        if not self.users:
            self.users = sorted(self.members)
        return self.users


@dataclass(slots=True)
class _Traffic:
    """What goes on in an organization's channels.

    Attributes:
        channels: How many are in each.
        connections: In how many channels each is.
    """

    channels: dict[str, int] = field(default_factory=dict)
    connections: dict[Connection, int] = field(default_factory=dict)
    publications: RecentCount = field(default_factory=RecentCount)


class Organizations:
    """The one owner of what is known about organizations. Event loop only.

    Args:
        tables: None without a database, and then there are no organizations.
        tasks: Where reads go on.
        token: The fencing number under which this instance may change something now.
        may_serve: Whether what is read now will be changed by nobody else.
        pause: Waits some seconds before a read is tried again.
    """

    def __init__(  # noqa: PLR0913 - its ports
        self,
        tables: OrganizationTables | None = None,
        *,
        tasks: Tasks | None = None,
        clock: Clock | None = None,
        token: Callable[[], int] = int,
        observer: Observer | None = None,
        may_serve: Callable[[], bool] = lambda: True,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._tables = tables
        self._tasks = tasks
        self._clock = clock or SystemClock()
        self._token = token
        self._pause = pause
        self._may_serve = may_serve
        self._observer = observer = observer or Observer()
        self._entries = SharedReads[str, _Entry | None](
            self._read, name="organizations.read", tasks=tasks, observer=observer
        )
        self._keys = SharedReads[str, dict[str, ApiKeyRecord]](
            self._read_keys, name="organizations.read_keys", tasks=tasks, observer=observer
        )
        self._absent: deque[str] = deque()
        self._doubted: set[str] = set()
        self._traffic: dict[str, _Traffic] = {}
        self._key_requests: dict[str, RecentCount] = {}
        self._changes = asyncio.Lock()
        self._generation = 0

    @property
    def is_kept(self) -> bool:
        """Whether there is a database for organizations at all."""
        return self._tables is not None

    def reset(self) -> None:
        """Forget everything, since this instance serves no longer."""
        self._generation += 1
        self._entries.reset()
        self._keys.reset()
        self._absent.clear()
        self._doubted.clear()
        self._traffic.clear()
        self._key_requests.clear()

    # What commands ask. Whoever asks about a channel has to call `ready` before.

    async def ready(self, channel: Channel) -> Error | None:
        """See to it that the organization of a channel is in memory. It awaits a future first, or nothing.

        Returns:
            ``Errors.INTERNAL``, which is temporary, when the database does not answer.
        """
        organization = organization_of(channel)
        if not organization or organization in self._entries:
            return None
        try:
            await self.load(organization)
        except DatabaseError:
            return Errors.INTERNAL
        return None

    def role(self, channel: Channel, user: str) -> Role | None:
        """Return what a user is in the organization of a channel; None for whoever is no member of it."""
        organization = organization_of(channel)
        return self.role_in(organization, user) if organization else None

    def role_in(self, organization: str, user: str) -> Role | None:
        """Return what a user is in an organization; None for whoever is no member, and where there is none."""
        entry = self._entries.get(organization)
        member = entry.members.get(user) if entry is not None else None
        return member.role if member is not None else None

    def exists(self, organization: str) -> bool:
        """Whether there is such an organization."""
        return self._entries.get(organization) is not None

    def lacks(self, channel: Channel, connection: Connection) -> Place | None:
        """Return the quota that keeps one more connection out of a channel."""
        organization = organization_of(channel)
        entry = self._entries.get(organization) if organization else None
        if organization is None or entry is None:
            return None
        traffic, quotas = self._traffic_of(organization), entry.organization
        lacking = None
        if quotas.max_connections and connection not in traffic.connections:
            lacking = Place.CONNECTIONS if len(traffic.connections) >= quotas.max_connections else None
        if lacking is None and quotas.max_channels and channel.name not in traffic.channels:
            lacking = Place.CHANNELS if len(traffic.channels) >= quotas.max_channels else None
        if lacking is not None:
            self._observer.limited(lacking.value)
        return lacking

    def take_publication(self, channel: Channel) -> TooMany | None:
        """Count a publication into a channel unless its organization has used up those of this minute."""
        organization = organization_of(channel)
        entry = self._entries.get(organization) if organization else None
        if organization is None or entry is None:
            return None
        recent = self._traffic_of(organization).publications
        refusal = recent.take(self._clock.now(), entry.organization.publications_per_minute)
        if refusal is not None:
            self._observer.limited("organization_publications")
        return refusal

    async def admit(self, channel: Channel) -> Error | None:
        """Decide over a publication that is no client's; it counts when it is let in. Awaits as `ready` does.

        Returns:
            ``Errors.INTERNAL`` when the database does not answer; ``Errors.UNKNOWN_CHANNEL`` when there is no
            such organization; an error with the code of ``Errors.TOO_MANY_REQUESTS`` when its minute is used up.
        """
        organization = organization_of(channel)
        if organization is None:
            return None
        refusal = await self.ready(channel)
        if refusal is not None:
            return refusal
        if not self.exists(organization):
            return Errors.UNKNOWN_CHANNEL
        return _USED_UP if self.take_publication(channel) is not None else None

    def publication_wait(self, organization: str) -> int:
        """Return the whole seconds until an organization has room for a publication; 0 for now."""
        entry, traffic = self._entries.get(organization), self._traffic.get(organization)
        if entry is None or traffic is None:
            return 0
        return traffic.publications.wait(self._clock.now(), entry.organization.publications_per_minute)

    def _traffic_of(self, organization: str) -> _Traffic:
        return self._traffic.setdefault(organization, _Traffic())

    # From the hub.

    def began(self, member: Member) -> None:
        """Count a membership in a channel, joined or joining."""
        organization = organization_of(member.room.channel)
        if organization:
            traffic = self._traffic_of(organization)
            traffic.channels[member.room.name] = traffic.channels.get(member.room.name, 0) + 1
            traffic.connections[member.connection] = traffic.connections.get(member.connection, 0) + 1

    def ended(self, member: Member) -> None:
        """Take back what `began` counted."""
        organization = organization_of(member.room.channel)
        traffic = self._traffic.get(organization) if organization else None
        if traffic is not None:
            _decrement(traffic.channels, member.room.name)
            _decrement(traffic.connections, member.connection)

    # Reading.

    async def load(self, organization: str) -> bool:
        """Read an organization unless it is in memory. It awaits a future first, or nothing.

        Returns:
            Whether there is one.

        Raises:
            DatabaseError: It could not be read.
        """
        if self._tables is None or not is_id(organization):
            return False
        if organization in self._entries:
            return self._entries.get(organization) is not None
        return await self._entries.load(organization) is not None

    def _note_absent(self, organization: str) -> None:
        """Remember a bounded number of ids that lead nowhere; who asks for more pays for the reads."""
        self._absent.append(organization)
        while len(self._absent) > _MAX_ABSENT:
            oldest = self._absent.popleft()
            if self._entries.get(oldest) is None:
                self._entries.drop(oldest)

    async def _read(self, organization: str) -> _Entry | None:
        kept = await self._served.read(organization, settled=organization in self._doubted)
        self._doubted.discard(organization)
        if kept is None:
            self._note_absent(organization)
            return None
        found, members = kept
        return _Entry(found, {member.user: member for member in members})

    async def _read_keys(self, _: str) -> dict[str, ApiKeyRecord]:
        keys = await self._served.read_keys(settled=_ALL_KEYS in self._doubted)
        self._doubted.discard(_ALL_KEYS)
        return {key.id: key for key in keys}

    # What the API shows.

    async def page(self, *, after: str, limit: int, prefix: str = "") -> list[Organization]:
        """Return up to ``limit`` organizations by id, from the one behind ``after``."""
        return await self._tables.page(after=after, limit=limit, prefix=prefix) if self._tables is not None else []

    def get(self, organization: str) -> Organization | None:
        """Return an organization that is in memory."""
        entry = self._entries.get(organization)
        return entry.organization if entry is not None else None

    def member(self, organization: str, user: str) -> MemberRecord | None:
        """Return a member of an organization that is in memory."""
        entry = self._entries.get(organization)
        return entry.members.get(user) if entry is not None else None

    def members(self, organization: str, *, after: str, limit: int, role: Role | None = None) -> list[MemberRecord]:
        """Return up to ``limit`` members by user id, from the one behind ``after``."""
        entry = self._entries.get(organization)
        if entry is None:
            return []
        users, found = entry.in_order(), list[MemberRecord]()
        for index in range(bisect_right(users, after), len(users)):
            if len(found) == limit:
                break
            member = entry.members[users[index]]
            if role in (None, member.role):
                found.append(member)
        return found

    async def keys(self, organization: str) -> list[ApiKeyRecord]:
        """Return the keys of an organization, revoked ones too, by id."""
        if self._tables is None:
            return []
        keys = await self._keys.load(_ALL_KEYS)
        return sorted((key for key in keys.values() if key.organization == organization), key=lambda key: key.id)

    def figures(self, organization: str) -> OrganizationFigures:
        """Return how much goes on in an organization that is in memory."""
        entry = self._entries.get(organization)
        traffic = self._traffic.get(organization) or _Traffic()
        return OrganizationFigures(
            members=len(entry.members) if entry is not None else 0,
            connections=len(traffic.connections),
            channels=len(traffic.channels),
            publications=traffic.publications.total(self._clock.now()),
        )

    # Keys at work.

    async def identify(self, presented: str) -> Caller | ApiKeyFault | TooMany:
        """Find out whose key this is. It awaits a future first, or nothing.

        Raises:
            DatabaseError: The keys could not be read.
        """
        parsed = parse_organization_key(presented)
        if parsed is None or self._tables is None:
            return ApiKeyFault.WRONG
        key = (await self._keys.load(_ALL_KEYS)).get(parsed.id)
        # Compared also when there is none, so that the time does not tell which ids there are.
        is_right = compare_digest(key.digest if key is not None else bytes(len(parsed.digest)), parsed.digest)
        if key is None or not is_right:
            return ApiKeyFault.WRONG
        if not key.is_good(self._clock.wall()):
            return ApiKeyFault.REVOKED if key.revoked_at is not None else ApiKeyFault.EXPIRED
        refusal = self._request(key)
        return refusal or Caller(key.organization, key.scopes, key.id)

    def _request(self, key: ApiKeyRecord) -> TooMany | None:
        if not key.per_minute:
            return None
        recent = self._key_requests.setdefault(key.id, RecentCount())
        refusal = recent.take(self._clock.now(), key.per_minute)
        if refusal is not None:
            self._observer.limited("key_requests")
        return refusal

    # Changing. Each is committed first, and made in memory next.

    async def create(self, organization: Organization) -> Organization | Refusal:
        """Add an organization; it has no members yet."""
        async with self._changes:
            if await self.load(organization.id):
                return Refusal.EXISTS
            now, generation = self._wall(), self._generation
            organization = replace(organization, created_at=now, updated_at=now)
            with self._doubting(organization.id):
                await self._served.create(organization, token=self._token())
            if generation == self._generation:
                self._entries.put(organization.id, _Entry(organization, {}))
        return organization

    async def change(self, organization: str, **values: str | int) -> Organization | Refusal:
        """Change name or quotas; those who are over a lower quota already stay."""
        async with self._changes:
            await self.load(organization)
            entry = self._entries.get(organization)
            if entry is None:
                return Refusal.NO_ORGANIZATION
            changed = replace(entry.organization, updated_at=self._wall(), **values)  # type: ignore[arg-type]  # the request model has checked the types
            with self._doubting(organization):
                if not await self._served.change(changed, token=self._token()):
                    return self._missed(organization, Refusal.NO_ORGANIZATION)
            entry.organization = changed
        return changed

    async def delete(self, organization: str) -> Refusal | None:
        """Remove an organization with all its members and keys; everybody is unsubscribed from its channels."""
        async with self._changes:
            if not await self.load(organization):
                return Refusal.NO_ORGANIZATION
            keys, generation = await self._keys.load(_ALL_KEYS), self._generation
            with self._doubting(organization, _ALL_KEYS):
                if not await self._served.delete(organization, token=self._token()):
                    return self._missed(organization, Refusal.NO_ORGANIZATION)
            if generation != self._generation:
                return None
            self._entries.put(organization, None)
            self._note_absent(organization)
            for key in [key for key in keys.values() if key.organization == organization]:
                del keys[key.id]
                self._key_requests.pop(key.id, None)
            self._expel(organization)
            self._traffic.pop(organization, None)
        return None

    async def add_member(self, organization: str, user: str, role: Role) -> MemberRecord | Refusal:
        """Make a user a member."""
        async with self._changes:
            await self.load(organization)
            entry = self._entries.get(organization)
            if entry is None:
                return Refusal.NO_ORGANIZATION
            if user in entry.members:
                return Refusal.MEMBER_EXISTS
            member = MemberRecord(user, role, self._wall())
            with self._doubting(organization):
                await self._served.add_member(organization, member, token=self._token())
            entry.members[user] = member
            entry.users = []
        return member

    async def change_member(self, organization: str, user: str, role: Role) -> MemberRecord | Refusal:
        """Give a member another role."""
        async with self._changes:
            await self.load(organization)
            entry = self._entries.get(organization)
            if entry is None or user not in entry.members:
                return Refusal.NO_MEMBER if entry is not None else Refusal.NO_ORGANIZATION
            member = replace(entry.members[user], role=role)
            with self._doubting(organization):
                if not await self._served.change_member(organization, member, token=self._token()):
                    return self._missed(organization, Refusal.NO_MEMBER)
            entry.members[user] = member
        return member

    async def remove_member(self, organization: str, user: str) -> Refusal | None:
        """End a membership; the user's connections are unsubscribed from the organization's channels at once."""
        async with self._changes:
            await self.load(organization)
            entry = self._entries.get(organization)
            if entry is None or user not in entry.members:
                return Refusal.NO_MEMBER if entry is not None else Refusal.NO_ORGANIZATION
            with self._doubting(organization):
                if not await self._served.remove_member(organization, user, token=self._token()):
                    return self._missed(organization, Refusal.NO_MEMBER)
            del entry.members[user]
            entry.users = []
            self._expel(organization)
        return None

    async def add_key(self, key: ApiKeyRecord) -> ApiKeyRecord | Refusal:
        """Add a key."""
        async with self._changes:
            if not await self.load(key.organization):
                return Refusal.NO_ORGANIZATION
            keys = await self._keys.load(_ALL_KEYS)
            key = replace(key, created_at=self._wall())
            with self._doubting(_ALL_KEYS):
                await self._served.add_key(key, token=self._token())
            keys[key.id] = key
        return key

    async def revoke_key(self, organization: str, key_id: str) -> ApiKeyRecord | Refusal:
        """End a key; to revoke it again leaves it as it is."""
        async with self._changes:
            if not await self.load(organization):
                return Refusal.NO_ORGANIZATION
            keys = await self._keys.load(_ALL_KEYS)
            key = keys.get(key_id)
            if key is None or key.organization != organization:
                return Refusal.NO_KEY
            if key.revoked_at is not None:
                return key
            revoked = replace(key, revoked_at=self._wall())
            with self._doubting(_ALL_KEYS):
                if not await self._served.revoke_key(key_id, revoked.revoked_at or 0.0, token=self._token()):
                    return self._missed(_ALL_KEYS, Refusal.NO_KEY)
            keys[key_id] = revoked
            self._key_requests.pop(key_id, None)
        return revoked

    def _wall(self) -> float:
        """Return Unix seconds to the millisecond, as the database keeps them and the API shows them."""
        return math.floor(self._clock.wall() * 1000) / 1000

    @property
    def _served(self) -> OrganizationTables:
        """The tables, as long as nobody else may change them."""
        if self._tables is None:
            raise DatabaseUnavailable("there is no database")
        if not self._may_serve():
            raise DatabaseUnavailable("this instance does not serve now")
        return self._tables

    @contextmanager
    def _doubting(self, *keys: str) -> Iterator[None]:
        """Drop what is in memory when it is not known, or not as assumed, what the database has."""
        try:
            yield
        except (DatabaseUnavailable, Overtaken):
            raise
        except BaseException:
            self._doubt(*keys)
            raise

    def _missed(self, key: str, refusal: Refusal) -> Refusal:
        """There was no row to change: somebody changed the tables behind our back."""
        self._doubt(key, _ALL_KEYS)
        return refusal

    def _doubt(self, *keys: str) -> None:
        for key in keys:
            self._doubted.add(key)
            if key == _ALL_KEYS:
                self._keys.drop(key)
            else:
                self._entries.drop(key)
                if self._tasks is not None:
                    self._tasks.spawn(self._settle(key, self._generation))

    async def _settle(self, organization: str, generation: int) -> None:
        """Read an organization again, however long it takes, and unsubscribe whoever is no member by now."""
        while self._generation == generation:
            try:
                await self.load(organization)
            except DatabaseError:
                await self._pause(_PAUSE_SECONDS)
            else:
                self._expel(organization)
                return

    def _expel(self, organization: str) -> None:
        """Unsubscribe every connection of an organization's channels whose user is no member."""
        traffic = self._traffic.get(organization)
        if traffic is None:
            return
        for connection in list(traffic.connections):
            if self.role_in(organization, connection.user) is not None:
                continue
            for member in list(connection.memberships.values()):
                if organization_of(member.room.channel) == organization:
                    if member.has_joined:
                        connection.unsubscribe(member, Unsubscribes.SERVER)
                    else:
                        # Its own subscribe command finds out and is answered with the refusal.
                        connection.overrun(member)


def _decrement(counts: dict[_T, int], key: _T) -> None:
    count = counts.get(key, 0) - 1
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)
