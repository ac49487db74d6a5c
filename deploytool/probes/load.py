"""A bounded load test: some connections, some publications, for some seconds, and what became of them."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from deploytool.model.observations import LoadReport
from deploytool.probes.client import open_client
from deploytool.probes.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deploytool.clock import Clock
    from deploytool.model.expectations import LoadThresholds
    from deploytool.probes.address import Address
    from deploytool.probes.client import ProbeClient

__all__ = ("LOAD_SECONDS", "LoadPlan", "LoadResult", "LoadUser", "Second", "percentile", "plan_load", "run_load")

LOAD_SECONDS: Final = 120.0
"""Hard limit of time of the whole test."""

_MOST_PUBLICATIONS: Final = 1000
_MOST_SECONDS: Final = 60.0
_OF_LIMIT: Final = 0.8
"""Part of what one user may send in a minute that a test user sends."""

_USUAL_PER_USER: Final = 100
_LAST_SECONDS: Final = 5.0
_TURN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a test is going to do.

    Attributes:
        users: Made-up users; each has a channel of its own and its share of connections and publications.
        connections: Of all users together.
        publications: Of all users together.
        seconds: Over which the publications are spread.
    """

    users: int
    connections: int
    publications: int
    seconds: float


def plan_load(
    allowance: int, limits: Mapping[str, float], thresholds: LoadThresholds, *, seconds: float = 10.0
) -> LoadPlan:
    """Return a test as large as the thresholds ask for, and no larger than the service allows.

    Args:
        allowance: Connections that probes may have open.
        limits: Of the service, by name; 0 means that there is none.
        thresholds: What the report is going to be held against.
        seconds: Over which the publications are spread.
    """
    connections = min(thresholds.connections, allowance)
    publications = min(thresholds.publications, _MOST_PUBLICATIONS)
    a_minute = limits.get("messages_per_minute", 0)
    per_user = max(1, int(a_minute * _OF_LIMIT)) if a_minute else _USUAL_PER_USER
    users = math.ceil(publications / per_user)
    if for_user := int(limits.get("max_connections_per_user", 0)):
        users = max(users, math.ceil(connections / for_user))
    users = max(1, min(users, connections))
    return LoadPlan(users, connections, min(publications, users * per_user), min(seconds, _MOST_SECONDS))


@dataclass(frozen=True, slots=True)
class LoadUser:
    """One made-up user.

    Attributes:
        channel: That its tokens open.
        connection: Token to connect with.
        subscription: Token to subscribe with.
    """

    channel: str
    connection: str
    subscription: str


@dataclass(frozen=True, slots=True)
class Second:
    """What one second of the test saw.

    Attributes:
        p50_seconds: 0 where nothing was delivered; the same for the other.
    """

    published: int
    delivered: int
    p50_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A report, and what a chart is drawn from."""

    report: LoadReport
    plan: LoadPlan
    seconds: tuple[Second, ...]


@dataclass(slots=True)
class _Tally:
    """Counts while the test runs; owned by its event loop."""

    clock: Clock
    began: float = 0.0
    published: int = 0
    expected: int = 0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)
    published_in: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    delivered_in: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def received(self, data: Any) -> None:  # noqa: ANN401 - JSON
        """Count a delivery of ours."""
        sent_at = data.get("sent") if isinstance(data, dict) else None
        if not isinstance(sent_at, float):
            return
        now = self.clock.now()
        self.latencies.append(now - sent_at)
        self.delivered_in[int(now - self.began)].append(now - sent_at)

    def seconds(self) -> tuple[Second, ...]:
        """Return the seconds of the test, the first one first."""
        last = max([*self.published_in, *self.delivered_in], default=-1)
        return tuple(
            Second(
                self.published_in.get(one, 0),
                len(seen := sorted(self.delivered_in.get(one, ()))),
                percentile(seen, 0.50),
                percentile(seen, 0.99),
            )
            for one in range(last + 1)
        )


async def run_load(
    address: Address,
    users: Sequence[LoadUser],
    plan: LoadPlan,
    clock: Clock,
    progress: Callable[[str, int, int], None],
    *,
    image_digest: str = "",
) -> LoadResult:
    """Carry a test out.

    Args:
        address: Where.
        users: As many as the plan has.
        plan: What to do.
        clock: Measures.
        progress: Told what is done, how many of it, and of how many.
        image_digest: Of the service; kept in the report.

    Raises:
        ProbeError: Nothing could be measured, since not one connection came to be.
    """
    tally = _Tally(clock)
    async with AsyncExitStack() as stack:
        rooms = await _open_rooms(stack, address, users, plan, tally, progress)
        tally.began = clock.now()
        async with asyncio.TaskGroup() as group:
            for number, room in enumerate(rooms):
                share = _share(plan.publications, len(rooms), number)
                group.create_task(_publish(room, users[number].channel, share, plan, tally, progress))
        await _until_delivered(tally)
        duration = clock.now() - tally.began
    ordered = sorted(tally.latencies)
    report = LoadReport(
        source=f"load test at {address.url}",
        at=clock.wall(),
        image_digest=image_digest,
        connections=sum(len(room) for room in rooms),
        publications=tally.published,
        deliveries=len(ordered),
        lost=max(0, tally.expected - len(ordered)),
        errors=tally.errors,
        duration_seconds=round(duration, 3),
        p50_seconds=round(percentile(ordered, 0.50), 6),
        p99_seconds=round(percentile(ordered, 0.99), 6),
    )
    return LoadResult(report, plan, tally.seconds())


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the smallest value that at least this part of an ordered sequence does not pass; 0.0 for an empty one."""
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)] if ordered else 0.0


def _share(whole: int, parts: int, number: int) -> int:
    return whole // parts + (1 if number < whole % parts else 0)


async def _open_rooms(
    stack: AsyncExitStack,
    address: Address,
    users: Sequence[LoadUser],
    plan: LoadPlan,
    tally: _Tally,
    progress: Callable[[str, int, int], None],
) -> list[list[ProbeClient]]:
    rooms: list[list[ProbeClient]] = []
    opened = 0
    for number, user in enumerate(users):
        room: list[ProbeClient] = []
        for _ in range(_share(plan.connections, len(users), number)):
            client = await stack.enter_async_context(open_client(address, on_publication=tally.received))
            welcome = await client.ask("connect", {"token": user.connection})
            joined = await client.ask("subscribe", {"channel": user.channel, "token": user.subscription})
            if welcome.is_accepted and joined.is_accepted:
                room.append(client)
            else:
                tally.errors += 1
            opened += 1
            progress("connections", opened, plan.connections)
        rooms.append(room)
    if not any(rooms):
        raise ProbeError(f"{address.url} let no connection of the load test in")
    return [room for room in rooms if room]


async def _publish(
    room: Sequence[ProbeClient],
    channel: str,
    count: int,
    plan: LoadPlan,
    tally: _Tally,
    progress: Callable[[str, int, int], None],
) -> None:
    """Publish at an even pace, on the first connection of the room."""
    clock = tally.clock
    for number in range(count):
        await asyncio.sleep(max(0.0, tally.began + plan.seconds * number / count - clock.now()))
        reply = await room[0].ask("publish", {"channel": channel, "data": {"sent": clock.now()}})
        if not reply.is_accepted:
            tally.errors += 1
            continue
        tally.published += 1
        tally.expected += len(room)
        tally.published_in[int(clock.now() - tally.began)] += 1
        progress("publications", tally.published, plan.publications)


async def _until_delivered(tally: _Tally) -> None:
    until = tally.clock.now() + _LAST_SECONDS
    while len(tally.latencies) < tally.expected and tally.clock.now() < until:  # noqa: ASYNC110 - or a time
        await asyncio.sleep(_TURN_SECONDS)
