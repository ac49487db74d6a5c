"""A world to roll out in: one workload, one service, its clients and a lock, on a clock that tests move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from deploytool.rollout.errors import LockHeldError, LockLostError, PhaseError, RefusedError, TransientError
from deploytool.rollout.journal import Journal
from deploytool.rollout.ports import (
    Client,
    Clock,
    Event,
    Hooks,
    Lock,
    Mark,
    Operator,
    Ports,
    Proposal,
    Service,
    Serving,
    View,
    Workload,
    WorkloadState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deploytool.rollout.phases import Phase

__all__ = ("CLIENTS", "NEW", "OLD", "Fault", "Killed", "Process", "World")

OLD, NEW = "web:1", "web:2"
CLIENTS = 40
LEASE_SECONDS = 60.0

_STEP = 0.5


class Killed(BaseException):
    """The process is gone."""


@dataclass(slots=True)
class Fault:
    """What becomes of one call.

    Attributes:
        index: Of the call, counted from 0 over all calls of a process.
        is_after: Whether it is carried out first, and only its answer lost.
    """

    index: int
    make: Callable[[], BaseException]
    is_after: bool = False


@dataclass(slots=True)
class World:
    """What there is without the tool.

    Attributes:
        behaviour: Of the new image: ``good``, ``never ready``, ``cannot be pulled``, ``crashes``, ``broken``,
            ``refuses``.
        is_stuck: Whether the pod that goes never does.
        drains: Whether connections close when they are told to.
        is_half_done: Whether a switch was killed in the middle.
    """

    behaviour: str = "good"
    is_stuck: bool = False
    drains: bool = True
    is_half_done: bool = False
    wall_offset: float = 1_800_000_000.0
    now: float = 1000.0
    image: str = OLD
    manager: str = "helm"
    replicas: int = 1
    clients: float = CLIENTS
    instance: int = 1
    running: str = OLD
    restarts: int = 0
    gate_until: float = 0.0
    drain_until: float = 0.0
    announce_until: float = 0.0
    announced: list[float | None] = field(default_factory=list)
    held_by: str = ""
    stored: str = ""
    renewed_at: float = 0.0
    calls: list[str] = field(default_factory=list)
    _gone_at: float | None = None
    _ready_at: float = 0.0
    _changed_at: float = 0.0
    on_time: list[tuple[float, Callable[[World], None]]] = field(default_factory=list)

    @property
    def journal(self) -> Journal | None:
        """What is on record."""
        return Journal.from_json(self.stored) if self.stored else None

    @property
    def is_ready(self) -> bool:
        """Whether a pod serves."""
        bad = self.running == NEW and self.behaviour in ("never ready", "cannot be pulled")
        return bool(self.running) and self.now >= self._ready_at and not bad

    @property
    def phase(self) -> str:
        """Of the service."""
        if self.drain_until > self.now:
            return "DRAINED" if self.clients < 1 else "DRAINING"
        return "GATED" if self.gate_until > self.now else "ACTIVE"

    def ask_for(self, image: str, manager: str) -> None:
        """Change the workload."""
        if image != self.image:
            self.image, self.manager, self._changed_at = image, manager, self.now
            if self.running and not self.is_stuck:
                self._gone_at = self.now + 1.0

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self.now < until:
            step = min(_STEP, until - self.now)
            self.now += step
            self._live(step)

    def _live(self, step: float) -> None:
        for at, action in [one for one in self.on_time if one[0] <= self.now]:
            self.on_time.remove((at, action))
            action(self)
        if self._gone_at is not None and self.now >= self._gone_at:
            self._gone_at, self.running, self.clients = None, "", 0.0
            self.gate_until = self.drain_until = self.announce_until = 0.0
        if not self.running and self.replicas:
            self.running, self.instance, self._ready_at = self.image, self.instance + 1, self.now + 3.0
        if self.running == NEW and self.behaviour == "crashes" and self.now > self._ready_at + 4.0:
            self.restarts, self._ready_at, self.clients = self.restarts + 1, self.now + 20.0, 0.0
        self._flow(step)

    def _flow(self, step: float) -> None:
        """Let clients come and go."""
        if self.phase in ("DRAINING", "DRAINED") and self.drains:
            self.clients = max(0.0, self.clients - 20 * step)
        elif self.is_ready and self.phase == "ACTIVE" and not self._refuses:
            self.clients = min(CLIENTS, self.clients + 10 * step)

    @property
    def _refuses(self) -> bool:
        return self.running == NEW and self.behaviour == "refuses"


class Process:
    """One run of the tool in a world: all its ports.

    Args:
        faults: What happens to its calls.
    """

    def __init__(self, world: World, *faults: Fault, name: str = "ada@laptop") -> None:
        self.world = world
        self.name = name
        self.calls: list[str] = []
        self.mutations: list[int] = []
        self.events: list[Event] = []
        self.faults = {one.index: one for one in faults}
        self.failing_hooks: set[tuple[Phase, str]] = set()
        self.hook_seconds = 0.0
        self.hooked: list[tuple[str, str]] = []
        self.interrupts_at: dict[int, int] = {}
        self.answers: list[str] = []
        self.interrupted = 0
        self.on_show: Callable[[Event], None] = lambda _event: None
        self.is_leaky = False
        self.ports = Ports(
            _Clock(self), _Workload(self), _Lock(self), _Service(self), _Client(self), _Hooks(self), _Operator(self),
            _View(self),
        )  # fmt: skip

    def call(self, name: str, action: Callable[[], object] | None = None) -> None:
        """Count a call, and let happen to it what a test asked for."""
        index = len(self.calls)
        self.calls.append(name)
        self.world.calls.append(name)
        if action is not None:
            self.mutations.append(index)
        self.interrupted += self.interrupts_at.get(index, 0)
        fault = self.faults.pop(index, None)
        if fault is not None and not fault.is_after:
            raise fault.make()
        if action is not None:
            action()
        if fault is not None:
            raise fault.make()

    def said(self, kind: str = "") -> list[str]:
        """Return what was shown."""
        return [one.text for one in self.events if kind in ("", one.kind)]


class _Part:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world


class _Clock(_Part, Clock):
    @override
    def now(self) -> float:
        return self._world.now

    @override
    def wall(self) -> float:
        return self._world.now + self._world.wall_offset

    @override
    def pause(self, seconds: float) -> None:
        self._world.advance(max(seconds, 0.01))


class _Workload(_Part, Workload):
    @override
    def observe(self) -> WorkloadState:
        self._process.call("observe")
        world = self._world
        running = (world.running,) if world.running and world._gone_at is None and not self._is_going else ()
        failure = ""
        if world.running == NEW == world.image and world.behaviour == "cannot be pulled":
            failure = "image web:2 cannot be pulled: not found"
        return WorkloadState(
            image=world.image,
            manager=world.manager,
            is_observed=world.now > world._changed_at,
            replicas=world.replicas,
            pods=running,
            ready=running if world.is_ready else (),
            terminating=int(bool(world.running) and not running),
            lost="pod web-1 is on node n1, which is gone" if self._is_going and world.is_stuck else "",
            failure=failure,
            restarts=world.restarts,
        )

    @property
    def _is_going(self) -> bool:
        return self._world.running != self._world.image

    @override
    def preflight(self, image: str) -> Proposal:
        self._process.call("preflight")
        if image == "web:gone":
            raise RefusedError("image web:gone cannot be pulled")
        return Proposal((f"image: {self._world.image} -> {image}",))

    @override
    def switch(self, journal: Journal, pause: Callable[[float], None] | None = None) -> str:
        self._process.call("switch", lambda: self._world.ask_for(journal.new, "deploytool"))
        return "patched"

    @override
    def restore(self, journal: Journal, pause: Callable[[float], None] | None = None) -> str:
        self._process.call("restore", lambda: self._world.ask_for(journal.old, "deploytool"))
        return "patched back"

    @override
    def mend(self, journal: Journal, pause: Callable[[float], None] | None = None) -> str:
        if not self._world.is_half_done:
            return ""
        self._process.call("mend", lambda: self._world.ask_for(journal.old, "helm"))
        self._world.is_half_done = False
        return "rolled back a pending release"

    @override
    def diagnose(self) -> Sequence[str]:
        return ("log: Traceback",)

    @override
    def commands(self, journal: Journal) -> Sequence[str]:
        return ("kubectl rollout undo deployment/web",)


class _Lock(_Part, Lock):
    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._proven_at = 0.0

    @property
    @override
    def heartbeat_seconds(self) -> float:
        return 10.0

    @override
    def require_free(self) -> None:
        self._require_free(is_resuming=False)

    @override
    def acquire(self, journal: Journal, *, is_resuming: bool = False) -> None:
        is_ours = self._world.held_by == self._process.name and self._world.stored == journal.to_json()
        if not is_ours:
            self._require_free(is_resuming=is_resuming)
        self._process.call("acquire", lambda: self._store(journal, self._process.name))

    def _require_free(self, *, is_resuming: bool) -> None:
        world, known = self._world, self._world.journal
        if world.held_by and world.now - world.renewed_at < LEASE_SECONDS:
            raise LockHeldError(f"held by {world.held_by}")
        if known is not None and not known.has_ended and not is_resuming:
            raise LockHeldError(f"rollout {known.rollout} of {known.actor} is unfinished")

    def _store(self, journal: Journal, holder: str) -> None:
        self._world.stored, self._world.held_by = journal.to_json(), holder
        self._world.renewed_at = self._proven_at = self._world.now

    def _require_ours(self) -> None:
        if self._world.held_by != self._process.name:
            raise LockLostError(f"the lock is held by {self._world.held_by or 'nobody'}")

    @override
    def read(self) -> Journal | None:
        return self._world.journal

    @override
    def write(self, journal: Journal) -> None:
        self._require_ours()
        self._process.call("write", lambda: self._store(journal, self._process.name))

    @override
    def renew(self) -> None:
        self._require_ours()
        self._process.call("renew")
        self._world.renewed_at = self._proven_at = self._world.now

    @override
    def release(self, journal: Journal) -> None:
        if self._world.held_by != self._process.name and self._world.stored == journal.to_json():
            return
        self._require_ours()
        self._process.call("release", lambda: self._store(journal, ""))

    @override
    def require(self) -> None:
        if self._world.now - self._proven_at >= LEASE_SECONDS * 2 / 3:
            raise LockLostError("the lock could not be renewed for 40 s")


class _Service(_Part, Service):
    def _require_listening(self) -> None:
        if not self._world.is_ready:
            raise TransientError("nobody answers")

    @override
    def status(self) -> Serving:
        self._process.call("status")
        self._require_listening()
        return Serving(f"i{self._world.instance}", self._world.phase, int(self._world.clients))

    @override
    def announce(self, message: str, *, starts_at: float | None, seconds: float, ttl_seconds: float) -> None:
        self._require_listening()
        self._process.call("announce", lambda: self._set("announce_until", ttl_seconds))
        self._world.announced.append(starts_at)

    def _set(self, name: str, seconds: float) -> None:
        setattr(self._world, name, self._world.now + seconds)

    @override
    def withdraw(self) -> None:
        self._require_listening()
        self._process.call("withdraw", lambda: self._set("announce_until", 0.0))

    @override
    def gate(self, reason: str, ttl_seconds: float) -> None:
        self._require_listening()
        self._process.call("gate", lambda: self._set("gate_until", ttl_seconds))

    @override
    def ungate(self) -> None:
        self._require_listening()
        self._process.call("ungate", lambda: self._set("gate_until", 0.0))

    @override
    def drain(self, ttl_seconds: float) -> None:
        self._require_listening()
        self._process.call("drain", lambda: self._set("drain_until", ttl_seconds))

    @override
    def undrain(self) -> None:
        self._require_listening()
        self._process.call("undrain", lambda: self._set("drain_until", 0.0))


class _Client(_Part, Client):
    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.instance = 0

    @override
    def hold(self) -> None:
        self._process.call("hold")
        self.instance = self._world.instance

    @override
    def is_held(self) -> bool:
        return self.instance == self._world.instance

    @override
    def knock(self) -> bool:
        self._process.call("knock")
        if not self._world.is_ready:
            raise TransientError("nobody answers")
        return self._world.phase == "ACTIVE" or self._process.is_leaky

    @override
    def mark(self) -> Mark:
        self._process.call("mark")
        return Mark("probe:1", 7, "epoch")

    @override
    def smoke(self, mark: Mark | None) -> tuple[str, str]:
        self._process.call("smoke")
        if self._world.running == NEW and self._world.behaviour == "broken":
            raise PhaseError("a publication did not come back")
        return f"i{self._world.instance}", "recovered" if mark else "served"

    @override
    def close(self) -> None:
        self.instance = 0


class _Hooks(_Part, Hooks):
    @override
    def run(self, phase: Phase, moment: str, journal: Journal, pause: Callable[[float], None]) -> None:
        pause(self._process.hook_seconds)
        self._process.hooked.append((moment, phase.value))
        if (phase, moment) in self._process.failing_hooks:
            raise PhaseError(f"hook {moment} {phase.value} ended with 1")


class _Operator(_Part, Operator):
    @property
    @override
    def interrupts(self) -> int:
        return self._process.interrupted

    @override
    def answer(self) -> str:
        return self._process.answers.pop(0) if self._process.answers else ""


class _View(_Part, View):
    @override
    def show(self, event: Event) -> None:
        self._process.events.append(event)
        self._process.on_show(event)
