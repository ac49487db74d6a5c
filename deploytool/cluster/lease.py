"""The lock of rollouts: a Lease, with the journal as its annotation.

Every change is a merge patch that names the resourceVersion it was made for, so one comparison is the fence of both. A
change whose answer was lost is recognised by the session, which is nobody else's.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from deploytool.cluster.errors import ConflictError, MissingError
from deploytool.cluster.resources import Resource
from deploytool.cluster.retrying import transient
from deploytool.rollout.errors import LockHeldError, LockLostError, TransientError
from deploytool.rollout.journal import Journal, JournalError
from deploytool.rollout.ports import Lock

if TYPE_CHECKING:
    from deploytool.cluster.client import Cluster
    from deploytool.rollout.ports import Clock

__all__ = ("JOURNAL", "LEASES", "Holder", "LeaseLock", "holder_of", "lease_name", "release_by_force")

LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")

JOURNAL: Final = "slackwater.dev/rollout-journal"
"""Annotation: the journal, as JSON."""
_SESSION: Final = "slackwater.dev/rollout-session"
"""Annotation: which process holds the lock; another one of the same person is another session."""
_REASON: Final = "slackwater.dev/rollout-reason"
_RELEASED: Final = "slackwater.dev/rollout-released"
"""Annotation: who released the lock by force, when and why."""
_ABANDONED: Final = "slackwater.dev/rollout-abandoned"
"""Annotation: the journal that was there then."""

_LEASE_SECONDS: Final = 60
_HEARTBEATS: Final = 6
_WATCHES: Final = 20
_TRIES: Final = 3


def lease_name(workload: str) -> str:
    """Return the name of the Lease of a workload."""
    return f"{workload}-rollout"


@dataclass(frozen=True, slots=True)
class Holder:
    """What a Lease says.

    Attributes:
        name: ``user@host/rollout-id``; empty when nobody holds it.
        renewed_at: In unix seconds, by the holder's clock; 0 when it does not say.
        seconds: For which it holds.
        reason: Why the rollout was begun.
        journal: As text; empty when there is none.
        released: Who released it by force last; empty when nobody did.
    """

    name: str
    renewed_at: float
    seconds: float
    reason: str
    journal: str
    released: str


def holder_of(cluster: Cluster, workload: str) -> Holder | None:
    """Return what the Lease of a workload says; None when there is none."""
    try:
        return _holder(cluster.get(LEASES, lease_name(workload)))
    except MissingError:
        return None


def release_by_force(cluster: Cluster, workload: str, *, who: str, reason: str) -> None:
    """Take the lock from whoever holds it, and let nobody have it; the journal is kept beside.

    Raises:
        MissingError: There is no Lease.
        ConflictError: Its holder changed it at the same moment.
    """
    lease = cluster.get(LEASES, lease_name(workload))
    at = dt.datetime.fromtimestamp(cluster.clock.wall(), dt.UTC).isoformat(timespec="seconds")
    journal = _holder(lease).journal
    notes = {_RELEASED: f"{at} {who}: {reason}", JOURNAL: None, _SESSION: None, _ABANDONED: journal or None}
    body = {
        "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"], "annotations": notes},
        "spec": {"holderIdentity": None},
    }
    cluster.patch(LEASES, lease_name(workload), body)


class LeaseLock(Lock):
    """The lock of one workload, for one process.

    Args:
        cluster: Where.
        workload: Whose.
        holder: ``user@host/rollout-id``.
        session: Of this process alone.
        clock: Ours; what others write of theirs is only believed where it is safe.
        seconds: For which it holds without being renewed.
    """

    def __init__(
        self, cluster: Cluster, workload: str, *, holder: str, session: str, clock: Clock, seconds: int = _LEASE_SECONDS
    ) -> None:
        self._cluster = cluster
        self._name = lease_name(workload)
        self._holder = holder
        self._session = session
        self._clock = clock
        self._seconds = seconds
        self._version = ""
        self._journal = ""
        self._proven_at = float("-inf")

    @property
    @override
    def heartbeat_seconds(self) -> float:
        return self._seconds / _HEARTBEATS

    @override
    def require_free(self) -> None:
        lease = self._get()
        if lease is None:
            return
        holder = _holder(lease)
        if holder.name and self._clock.wall() - holder.renewed_at < holder.seconds:
            raise LockHeldError(_held(holder))
        self._require_finished(holder, None)

    @override
    def acquire(self, journal: Journal, *, is_resuming: bool = False) -> None:
        lease = self._get()
        if lease is None:
            self._create(journal)
            return
        holder = _holder(lease)
        if holder.name:
            lease = self._expired(lease, is_resuming=is_resuming)
            holder = _holder(lease)
        self._require_finished(holder, journal if is_resuming else None)
        self._journal = journal.to_json()
        # Only this once: what follows keeps the time of the taking.
        more = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._seconds,
            "acquireTime": self._time(),
            "leaseTransitions": int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1,
        }
        self._version = str(lease["metadata"]["resourceVersion"])
        try:
            self._change(self._journal, more, annotations={_SESSION: self._session, _REASON: journal.reason})
        except LockLostError as error:
            raise LockHeldError(f"somebody else was quicker: {error}") from error

    def _expired(self, lease: dict[str, Any], *, is_resuming: bool) -> dict[str, Any]:
        """Return the Lease once it has expired.

        Raises:
            LockHeldError: It has not: its holder says so, or renews it while we watch.
        """
        holder = _holder(lease)
        since = self._clock.wall() - holder.renewed_at
        if not is_resuming and since < holder.seconds:
            raise LockHeldError(_held(holder))
        # Their clock and ours may differ by hours; that nothing was renewed for so long is seen by ours.
        seconds = max(holder.seconds, 1.0)
        for _ in range(_WATCHES):
            self._clock.pause(seconds / _WATCHES)
            found = self._get()
            if found is None or found["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
                raise LockHeldError(_held(holder if found is None else _holder(found)))
        return lease

    def _require_finished(self, holder: Holder, resumed: Journal | None) -> None:
        if resumed is not None:
            if holder.journal and holder.journal != resumed.to_json():
                raise LockHeldError("the rollout went on meanwhile: somebody else resumed it")
            return
        if not holder.journal:
            return
        try:
            known = Journal.from_json(holder.journal)
        except JournalError as error:
            raise LockHeldError(f"{error}; deploytool lock release --reason WHY forgets it") from error
        if not known.has_ended:
            raise LockHeldError(
                f"rollout {known.rollout} of {known.actor} was left in {known.phase.value}: "
                "deploytool rollout resume, or abort, ends it"
            )

    @override
    def read(self) -> Journal | None:
        lease = self._get()
        text = "" if lease is None else _holder(lease).journal
        return Journal.from_json(text) if text else None

    @override
    def write(self, journal: Journal) -> None:
        self._change(journal.to_json(), {})

    @override
    def renew(self) -> None:
        self._change(self._journal, {})

    @override
    def release(self, journal: Journal) -> None:
        self._change(journal.to_json(), {"holderIdentity": None}, annotations={_SESSION: None})

    @override
    def require(self) -> None:
        if self._clock.now() - self._proven_at >= self._seconds * 2 / 3:
            raise LockLostError(f"the lock could not be renewed for {self._seconds * 2 / 3:.0f} s, so we stopped")

    def _create(self, journal: Journal) -> None:
        began = self._clock.now()
        self._journal = journal.to_json()
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {
                "name": self._name,
                "annotations": {JOURNAL: self._journal, _SESSION: self._session, _REASON: journal.reason},
            },
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": self._seconds,
                "acquireTime": self._time(),
                "renewTime": self._time(),
                "leaseTransitions": 1,
            },
        }
        try:
            with transient():
                created = self._cluster.create(LEASES, body)
        except TransientError:
            # Made by somebody else at the same moment, or by us, and only the answer was lost.
            found = self._found()
            if found is None or _session(found) != self._session:
                raise LockHeldError("the lock could not be made" if found is None else _held(_holder(found))) from None
            created = found
        self._prove(created, began)

    def _change(self, journal: str, spec: dict[str, Any], *, annotations: dict[str, Any] | None = None) -> None:
        began = self._clock.now()
        body = {
            "metadata": {
                "resourceVersion": self._version,
                "annotations": {**(annotations or {}), JOURNAL: journal},
            },
            "spec": {**spec, "renewTime": self._time()},
        }
        try:
            with transient():
                changed = self._cluster.patch(LEASES, self._name, body)
        except MissingError as error:
            raise LockLostError(f"the lock is gone: somebody deleted Lease {self._name}") from error
        except TransientError as error:
            # Nothing to look at when nobody answers; a conflict may be one with ourselves.
            if not isinstance(error.__cause__, ConflictError):
                raise
            changed = self._ours(body, error)
        self._journal = journal
        self._prove(changed, began)

    def _ours(self, wanted: dict[str, Any], error: TransientError) -> dict[str, Any]:
        """Return the Lease when the change was made after all, and only its answer lost.

        Raises:
            LockLostError: It is somebody else's.
            TransientError: It is ours, as it was before the change: make it again.
        """
        found = self._get()
        if found is None:
            raise LockLostError(f"the lock is gone: somebody deleted Lease {self._name}") from error
        notes = wanted["metadata"]["annotations"]
        is_letting_go = notes.get(_SESSION, self._session) is None
        stored = found["metadata"].get("annotations") or {}
        if is_letting_go and not _holder(found).name and stored.get(JOURNAL) == notes[JOURNAL]:
            return found
        if _session(found) != self._session:
            raise LockLostError(_held(_holder(found))) from error
        self._version = str(found["metadata"]["resourceVersion"])
        if not is_letting_go and stored.get(JOURNAL) == notes[JOURNAL]:
            return found
        raise error

    def _prove(self, lease: dict[str, Any], began: float) -> None:
        # From before the question was asked: the answer may have taken long.
        self._version, self._proven_at = str(lease["metadata"]["resourceVersion"]), began

    def _get(self) -> dict[str, Any] | None:
        try:
            with transient():
                return self._cluster.get(LEASES, self._name)
        except MissingError:
            return None

    def _found(self) -> dict[str, Any] | None:
        for attempt in range(_TRIES):
            try:
                return self._get()
            except TransientError:
                if attempt == _TRIES - 1:
                    raise
                self._clock.pause(1.0)
        return None

    def _time(self) -> str:
        at = dt.datetime.fromtimestamp(self._clock.wall(), dt.UTC)
        return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _holder(lease: dict[str, Any]) -> Holder:
    spec, notes = lease.get("spec") or {}, lease["metadata"].get("annotations") or {}
    renewed = spec.get("renewTime")
    try:
        renewed_at = dt.datetime.fromisoformat(renewed).timestamp() if renewed else 0.0
    except ValueError:
        renewed_at = 0.0
    return Holder(
        name=str(spec.get("holderIdentity") or ""),
        renewed_at=renewed_at,
        seconds=float(spec.get("leaseDurationSeconds") or _LEASE_SECONDS),
        reason=str(notes.get(_REASON) or ""),
        journal=str(notes.get(JOURNAL) or ""),
        released=str(notes.get(_RELEASED) or ""),
    )


def _session(lease: dict[str, Any]) -> str:
    return str((lease["metadata"].get("annotations") or {}).get(_SESSION) or "")


def _held(holder: Holder) -> str:
    if not holder.name:
        return f"the lock was released by force: {holder.released}" if holder.released else "nobody holds the lock"
    return f"the lock is held by {holder.name}{f' ({holder.reason})' if holder.reason else ''}"
