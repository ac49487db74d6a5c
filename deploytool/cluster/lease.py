"""The lock of rollouts: a Lease, with the journal as its annotation.

Every change is a merge patch that names the resourceVersion it was made for, so one comparison is the fence of both. A
change whose answer was lost is recognised by the session, which is nobody else's; it is made again all the same, since
only a change that is answered proves for how long the lock is ours.
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
_LONGEST_SECONDS: Final = 3600.0
_MOST_REASON: Final = 300


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
    notes = {
        _RELEASED: f"{at} {who}: {reason[:_MOST_REASON]}",
        JOURNAL: None,
        _SESSION: None,
        _ABANDONED: journal or None,
    }
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
        self._expired_signs: tuple[object, ...] | None = None
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
        if self._is_ours(lease):
            # Taken by us when it was tried before, and only the answer was lost.
            self._version = str(lease["metadata"]["resourceVersion"])
            self._change(journal.to_json())
            return
        if holder.name:
            lease = self._expired(lease, is_resuming=is_resuming)
            holder = _holder(lease)
        self._require_finished(holder, journal if is_resuming else None)
        # Only this once: what follows keeps the time of the taking.
        more = {
            "acquireTime": self._time(),
            "leaseTransitions": int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1,
        }
        self._version = str(lease["metadata"]["resourceVersion"])
        try:
            self._change(journal.to_json(), more, annotations=self._introduction(journal))
        except LockLostError as error:
            found = self._get()
            if found is not None and (not _holder(found).name or _signs(found) == _signs(lease)):
                raise TransientError("the lock was changed while it was taken") from error
            raise LockHeldError(f"somebody else was quicker: {error}") from error

    def _expired(self, lease: dict[str, Any], *, is_resuming: bool) -> dict[str, Any]:
        """Return the Lease as it is once it has expired.

        Raises:
            LockHeldError: It has not: its holder says so, or renews it while we watch.
            TransientError: It could not be seen at the end.
        """
        if _signs(lease) == self._expired_signs:
            return lease
        holder = _holder(lease)
        since = self._clock.wall() - holder.renewed_at
        if not is_resuming and since < holder.seconds:
            raise LockHeldError(_held(holder))
        # Their clock and ours may differ by hours; that nothing was renewed for so long is seen by ours.
        if holder.seconds > _LONGEST_SECONDS:
            raise LockHeldError(
                f"{_held(holder)}, for {holder.seconds:.0f} s without a sign of life: "
                "deploytool lock release --reason WHY"
            )
        return self._watched(lease, max(holder.seconds, 1.0))

    def _watched(self, lease: dict[str, Any], seconds: float) -> dict[str, Any]:
        until = self._clock.now() + seconds
        while True:
            # By the clock and not by counting: a pause that is interrupted is shorter.
            self._clock.pause(max(min(seconds / _WATCHES, until - self._clock.now()), 0.0))
            is_last = self._clock.now() >= until
            try:
                found = self._get()
            except TransientError:
                if is_last:
                    raise
                continue
            if found is None:
                raise LockHeldError("the lock was deleted while we waited for it to expire; look again")
            if _signs(found) != _signs(lease):
                raise LockHeldError(_held(_holder(found)))
            if is_last:
                self._expired_signs = _signs(found)
                return found

    def _require_finished(self, holder: Holder, resumed: Journal | None) -> None:
        if resumed is not None:
            if holder.journal and _known(holder.journal) != _known(resumed.to_json()):
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
        self._change(journal.to_json())

    @override
    def renew(self) -> None:
        # Without the journal: one that may have been written since, and whose answer was lost, is newer than ours.
        self._change("")

    @override
    def release(self, journal: Journal) -> None:
        self._change(journal.to_json(), {"holderIdentity": None}, annotations={_SESSION: None})

    @override
    def require(self) -> None:
        if self._clock.now() - self._proven_at >= self._seconds * 2 / 3:
            raise LockLostError(f"the lock could not be renewed for {self._seconds * 2 / 3:.0f} s, so we stopped")

    def _create(self, journal: Journal) -> None:
        began = self._clock.now()
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {
                "name": self._name,
                "annotations": {**self._introduction(journal), JOURNAL: journal.to_json()},
            },
            "spec": {**self._ownership(), "acquireTime": self._time(), "leaseTransitions": 1},
        }
        # Whoever made it at the same moment is found when it is tried again; so are we, when only the answer was lost.
        with transient():
            created = self._cluster.create(LEASES, body)
        self._prove(created, began)

    def _introduction(self, journal: Journal) -> dict[str, str]:
        return {_SESSION: self._session, _REASON: journal.reason[:_MOST_REASON]}

    def _ownership(self) -> dict[str, Any]:
        # All of it each time: what somebody edited beside us would go on saying something else than we go by.
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": self._seconds,
            "renewTime": self._time(),
        }

    def _change(
        self, journal: str, spec: dict[str, Any] | None = None, *, annotations: dict[str, Any] | None = None
    ) -> None:
        """Change the Lease, if it is as we know it, or still ours.

        Args:
            journal: Empty leaves the one that is there.
            spec: Beside what says that it is ours.
        """
        more, notes = spec or {}, {**(annotations or {}), **({JOURNAL: journal} if journal else {})}
        meta = {"resourceVersion": self._version, **({"annotations": notes} if notes else {})}
        began = self._clock.now()
        body = {"metadata": meta, "spec": {**self._ownership(), **more}}
        try:
            changed = self._patch(body)
        except TransientError as error:
            # Nothing to look at when nobody answers; a conflict may be one with ourselves, whose answer was lost.
            if not isinstance(error.__cause__, ConflictError):
                raise
            found = self._current()
            if _was_released(found, journal) and more.get("holderIdentity", "") is None:
                return
            if not self._is_ours(found):
                raise LockLostError(_held(_holder(found))) from error
            meta["resourceVersion"] = self._version = str(found["metadata"]["resourceVersion"])
            began = self._clock.now()
            changed = self._patch(body)
        self._prove(changed, began)

    def _patch(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            with transient():
                return self._cluster.patch(LEASES, self._name, body)
        except MissingError as error:
            raise self._gone() from error

    def _current(self) -> dict[str, Any]:
        found = self._get()
        if found is None:
            raise self._gone()
        return found

    def _gone(self) -> LockLostError:
        return LockLostError(f"the lock is gone: somebody deleted Lease {self._name}")

    def _is_ours(self, lease: dict[str, Any]) -> bool:
        # By both: whoever clears the holder by hand means that it is ours no more.
        return _session(lease) == self._session and _holder(lease).name == self._holder

    def _prove(self, lease: dict[str, Any], began: float) -> None:
        # From before the question was asked: the answer may have taken long.
        self._version, self._proven_at = str(lease["metadata"]["resourceVersion"]), began

    def _get(self) -> dict[str, Any] | None:
        try:
            with transient():
                return self._cluster.get(LEASES, self._name)
        except MissingError:
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


def _known(text: str) -> Journal | str:
    """Return a journal as its meaning; the text where it has none. An older version wrote the same in fewer words."""
    try:
        return Journal.from_json(text)
    except JournalError:
        return text


def _signs(lease: dict[str, Any]) -> tuple[object, ...]:
    """Return what a holder changes who is alive; anything else may be changed by anybody."""
    spec, notes = lease.get("spec") or {}, lease["metadata"].get("annotations") or {}
    return spec.get("holderIdentity"), spec.get("renewTime"), notes.get(_SESSION), notes.get(JOURNAL)


def _was_released(lease: dict[str, Any], journal: str) -> bool:
    return not _holder(lease).name and _holder(lease).journal == journal


def _session(lease: dict[str, Any]) -> str:
    return str((lease["metadata"].get("annotations") or {}).get(_SESSION) or "")


def _held(holder: Holder) -> str:
    if not holder.name:
        return f"the lock was released by force: {holder.released}" if holder.released else "nobody holds the lock"
    return f"the lock is held by {holder.name}{f' ({holder.reason})' if holder.reason else ''}"
