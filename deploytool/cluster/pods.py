"""What pods say of themselves: whether one will ever become ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ("failure_of", "is_active", "is_going", "is_ready", "restarts_of", "unfinished_init_container")

# The first error of a pull is tried again at once; the back-off says that this failed too.
_HOPELESS: Final = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
_MOST_RESTARTS: Final = 3
_UNSCHEDULED_SECONDS: Final = 60.0


def is_going(pod: Mapping[str, Any]) -> bool:
    """Whether it was told to end, and has not."""
    return bool(pod["metadata"].get("deletionTimestamp")) and _phase(pod) not in ("Succeeded", "Failed")


def is_active(pod: Mapping[str, Any]) -> bool:
    """Whether it runs or is about to."""
    return not pod["metadata"].get("deletionTimestamp") and _phase(pod) not in ("Succeeded", "Failed")


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether it says that it is ready."""
    return _condition(pod, "Ready").get("status") == "True"


def restarts_of(pod: Mapping[str, Any]) -> int:
    """Return how often its containers were restarted."""
    return sum(int(one.get("restartCount") or 0) for one in _statuses(pod))


def unfinished_init_container(pod: Mapping[str, Any]) -> str:
    """Return the name of the container that the others wait for; empty when there is none."""
    found = (pod.get("status") or {}).get("initContainerStatuses") or ()
    return next((str(one.get("name")) for one in found if not one.get("ready")), "")


def failure_of(pod: Mapping[str, Any], seen_seconds: float) -> str:
    """Return why it will not become ready; empty while it still may.

    Args:
        seen_seconds: For how long it has been seen.
    """
    name = pod["metadata"]["name"]
    for one in _statuses(pod):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            message = f": {waiting['message']}" if waiting.get("message") else ""
            return f"container {one.get('name')} of pod {name}: {waiting['reason']}{message}"
        if int(one.get("restartCount") or 0) >= _MOST_RESTARTS and not one.get("ready"):
            return f"container {one.get('name')} of pod {name} was restarted {one['restartCount']} times"
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and seen_seconds >= _UNSCHEDULED_SECONDS:
        return f"pod {name} finds no node: {scheduled.get('message') or scheduled.get('reason')}"
    return ""


def _statuses(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = (pod.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == kind), {})


def _phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase") or "")
