"""What a rollout needs of the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deploytool.rollout.journal import Journal
    from deploytool.rollout.phases import Phase

__all__ = (
    "Client",
    "Clock",
    "Event",
    "Hooks",
    "Lock",
    "Mark",
    "Operator",
    "Ports",
    "Proposal",
    "Records",
    "Service",
    "Serving",
    "Trial",
    "View",
    "Workload",
    "WorkloadState",
)


class Clock(Protocol):
    """Both kinds of time, and waiting."""

    def now(self) -> float:
        """Return seconds of a clock that never goes back."""
        ...

    def wall(self) -> float:
        """Return unix seconds."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait; returns earlier when the operator interrupts."""
        ...


@dataclass(frozen=True, slots=True)
class WorkloadState:
    """The workload and its pods, as the cluster says.

    Attributes:
        image: That it asks for.
        manager: Field manager that wrote the image last; empty when that is not known.
        is_observed: Whether the controller has seen the newest version of it.
        replicas: That it asks for.
        scaler: Field manager that wrote that number last; empty when that is not known.
        pods: Pods that run or are about to, by image; without those that are going.
        ready: Images of pods that are ready.
        terminating: Pods that are going and not gone.
        lost: Why a pod that is going will never be gone by itself; empty while that is not so.
        failure: Why its new pod will not become ready; empty while it still may.
        restarts: Of the containers of its pods.
    """

    image: str
    manager: str = ""
    is_observed: bool = True
    replicas: int = 1
    scaler: str = ""
    pods: Sequence[str] = ()
    ready: Sequence[str] = ()
    terminating: int = 0
    lost: str = ""
    failure: str = ""
    restarts: int = 0

    def is_serving(self, image: str) -> bool:
        """Whether its one pod is ready with this image, and there is no other."""
        return (
            self.is_observed
            and self.image == image
            and tuple(self.pods) == (image,)
            and tuple(self.ready) == (image,)
            and self.terminating == 0
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a switch would do.

    Attributes:
        changes: Each a line, for people.
        pod: Template of the pod that would be asked for, as in the workload: ``metadata`` and ``spec``.
    """

    changes: Sequence[str]
    pod: Mapping[str, Any] = field(default_factory=dict)


class Workload(Protocol):
    """The workload. Methods raise `TransientError` for what may work in a moment, another error for what will not."""

    def observe(self) -> WorkloadState:
        """Look."""
        ...

    def preflight(self, image: str) -> Proposal:
        """Return what a switch to an image would do; nothing is changed.

        Raises:
            RefusedError: It would not work.
        """
        ...

    def switch(self, journal: Journal, pause: Callable[[float], None] | None = None) -> str:
        """Ask for the new image; returns what was done, for people.

        Args:
            pause: Waits, and keeps alive what has to be renewed; None where nothing has to.
        """
        ...

    def restore(self, journal: Journal, pause: Callable[[float], None] | None = None) -> str:
        """Ask for the old image; arguments and answer as those of `switch`."""
        ...

    def mend(self, journal: Journal, pause: Callable[[float], None] | None = None) -> str:
        """Bring into order what a switch left that was cut off; returns what was done, empty for nothing."""
        ...

    def diagnose(self) -> Sequence[str]:
        """Return events and last lines of logs, for people; never raises."""
        ...

    def commands(self, journal: Journal) -> Sequence[str]:
        """Return commands by which a person looks, and goes back."""
        ...


class Trial(Protocol):
    """A pod that lives for a moment: is the image there, does it start, can its migrations be gone back from?"""

    def run(self, journal: Journal, pod: Mapping[str, Any], pause: Callable[[float], None]) -> Sequence[str]:
        """Try the new image where the old one runs, and return what was seen, each a line.

        Args:
            journal: Of the rollout.
            pod: Template of the pod that the switch would ask for.
            pause: Waits.

        Raises:
            RefusedError: It would not work.
            TransientError: It could not be tried.
        """
        ...

    def sweep(self) -> None:
        """Remove what was left by whoever was killed; never raises."""
        ...


class Records(Protocol):
    """What is kept of rollouts that are over, for whoever checks the release later."""

    def store(self, journal: Journal, *, is_drill: bool) -> str:
        """Keep it, and return its name.

        Args:
            journal: Of a rollout that has ended.
            is_drill: It went back because that was to be practised.
        """
        ...


class Lock(Protocol):
    """The lock and the journal: one object, changed by comparison with what was there."""

    @property
    def heartbeat_seconds(self) -> float:
        """How often to renew it."""
        ...

    def require_free(self) -> None:
        """Look, before anything else is looked at, whether a new rollout could take it; waits for nothing.

        Raises:
            LockHeldError: It is held, or an unfinished rollout is there.
        """
        ...

    def acquire(self, journal: Journal, *, is_resuming: bool = False) -> None:
        """Take it and write the journal.

        Args:
            is_resuming: Whether the journal that is there is the one to go on with; else there must be none unfinished.

        Raises:
            LockHeldError: It is held, or an unfinished rollout is there.
        """
        ...

    def read(self) -> Journal | None:
        """Return the journal that is there; None when there is none."""
        ...

    def write(self, journal: Journal) -> None:
        """Write the journal down, and renew.

        Raises:
            LockLostError: It is not ours any more; nothing was written.
            TransientError: It may or may not have been written; writing the same again is right.
        """
        ...

    def renew(self) -> None:
        """Say that we are alive; raises as `write`."""
        ...

    def release(self, journal: Journal) -> None:
        """Write the journal down and let go."""
        ...

    def require(self) -> None:
        """Check, without asking anybody, that nobody else can have taken it.

        Raises:
            LockLostError: It could not be renewed for two thirds of its time.
        """
        ...


@dataclass(frozen=True, slots=True)
class Serving:
    """What the service says of itself.

    Attributes:
        phase: As its contract names them: ``ACTIVE``, ``GATED``, ``DRAINING``, ``DRAINED``, …
        clients: Open WebSockets that are no probes'.
        is_durable: Whether it keeps history in a database, which does its work.
    """

    instance: str
    phase: str
    clients: int
    is_durable: bool = False


class Service(Protocol):
    """The admin contract. Methods raise `TransientError` when nobody answers; each may be repeated, and then renews."""

    def status(self) -> Serving:
        """Look."""
        ...

    def announce(self, message: str, *, starts_at: float | None, seconds: float, ttl_seconds: float) -> None:
        """Tell clients."""
        ...

    def withdraw(self) -> None:
        """Tell them that it is over."""
        ...

    def gate(self, reason: str, ttl_seconds: float) -> None:
        """Refuse new WebSockets."""
        ...

    def ungate(self) -> None:
        """Admit them again."""
        ...

    def drain(self, ttl_seconds: float) -> None:
        """Close the open ones."""
        ...

    def undrain(self) -> None:
        """Stop that, and admit again."""
        ...


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the stream of our own channel stood before the switch.

    Attributes:
        token: Opens that channel again; never written down.
        is_durable: Whether the stream has to outlive the process.
    """

    channel: str
    offset: int
    epoch: str
    token: object = field(default=None, repr=False)
    is_durable: bool = False


class Client(Protocol):
    """A real client, by the way that clients take."""

    def hold(self) -> None:
        """Open a WebSocket and keep it."""
        ...

    def is_held(self) -> bool:
        """Whether it is still open."""
        ...

    def knock(self) -> bool:
        """Try to open another one; returns whether it was let in.

        Raises:
            TransientError: Nobody answered at all.
        """
        ...

    def mark(self) -> Mark:
        """Publish something on a channel of our own, and return where that left its stream."""
        ...

    def smoke(self, mark: Mark | None) -> tuple[str, str]:
        """Connect, subscribe, publish, receive, recover; returns the instance that served, and what was seen.

        Args:
            mark: What has to be recovered; None when nothing was published before the switch.

        Raises:
            PhaseError: The service does not do what it should.
            TransientError: It could not be tried.
        """
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...


class Hooks(Protocol):
    """Commands of the operator's own."""

    def run(self, phase: Phase, moment: str, journal: Journal, pause: Callable[[float], None]) -> None:
        """Run those that stand for a phase.

        Args:
            moment: ``before`` or ``after``.
            pause: Waits.

        Raises:
            PhaseError: One of them failed.
        """
        ...


class Operator(Protocol):
    """The person in front of it."""

    @property
    def interrupts(self) -> int:
        """How often it was interrupted."""
        ...

    def answer(self) -> str:
        """Return what was asked for while it is paused: ``go on``, ``back``, ``leave``; empty for nothing yet."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened.

    Attributes:
        at: In unix seconds.
        kind: ``phase``, ``done``, ``failed``, ``progress``, ``note`` or ``end``.
        text: For people, in one line; empty where there is something for machines alone.
        data: Numbers and names, for machines: ``left``, ``clients`` or ``back`` are clients, counted just then.
    """

    at: float
    kind: str
    phase: Phase
    text: str
    data: Mapping[str, object] = field(default_factory=dict)


class View(Protocol):
    """Whoever watches."""

    def show(self, event: Event) -> None:
        """Show an event."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All of it.

    Attributes:
        trial: None where no pod may be tried.
        records: None where nothing is kept.
    """

    clock: Clock
    workload: Workload
    lock: Lock
    service: Service
    client: Client
    hooks: Hooks
    operator: Operator
    view: View
    trial: Trial | None = None
    records: Records | None = None
