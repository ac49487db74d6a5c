"""What the guard needs of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deploytool.guard.decision import Autoscaler, Decision, Workload

__all__ = ("Objects", "Observer")


class Objects(Protocol):
    """Objects of one namespace; every method may raise a `DeploytoolError`.

    Called from worker threads, one call at a time.
    """

    def all(self, kind: str) -> Sequence[Mapping[str, Any]]:
        """Return the objects of a kind; none when the cluster does not have it."""
        ...

    def read(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Return an object; None when it is gone."""
        ...

    def scale(self, kind: str, name: str, patch: list[dict[str, Any]]) -> bool:
        """Patch the scale of a workload; False when it was changed meanwhile, and nothing was done."""
        ...

    def tell(self, about: Workload | Autoscaler, reason: str, message: str) -> None:
        """Write a warning as an Event."""
        ...


class Observer(Protocol):
    """Is told what the guard sees and does; may not raise."""

    def saw(self, workload: Workload, decision: Decision) -> None:
        """A workload was looked at, and what was decided has been done."""
        ...

    def lost(self, workload: Workload) -> None:
        """A workload is gone, or not guarded any more."""
        ...

    def warned(self, autoscaler: Autoscaler, workload: Workload) -> None:
        """An autoscaler may ask for more than one."""
        ...

    def failed(self, what: str, problem: str) -> None:
        """Something could not be done."""
        ...

    def looked(self, at: float) -> None:
        """Everything was looked at afresh; seconds since the Unix epoch."""
        ...
