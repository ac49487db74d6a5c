"""What a client may ask about itself: who it is, and what it may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simcluster.identity import Access, Attempt

if TYPE_CHECKING:
    from tests.simcluster.kinds import Resource
    from tests.simcluster.requests import Request
    from tests.simcluster.store import Object

__all__ = ("review",)


def review(access: Access, resource: Resource, request: Request) -> Object:
    """Answer a review; nothing is stored."""
    asked: Object = request.read()
    answer: Object = {**asked, "apiVersion": resource.api_version, "kind": resource.kind}
    answer.setdefault("metadata", {})
    match resource.kind:
        case "SelfSubjectReview":
            answer["status"] = {"userInfo": request.user.info()}
        case "SelfSubjectAccessReview":
            answer["status"] = _access(access, request, asked.get("spec") or {})
        case _:
            answer["status"] = _rules(access, request, asked.get("spec") or {})
    return answer


def _access(access: Access, request: Request, spec: dict[str, Any]) -> dict[str, Any]:
    wanted = spec.get("resourceAttributes") or {}
    subresource = wanted.get("subresource")
    attempt = Attempt(
        wanted.get("verb", ""),
        wanted.get("group", ""),
        wanted.get("resource", "") + (f"/{subresource}" if subresource else ""),
        wanted.get("namespace", ""),
        wanted.get("name", ""),
    )
    is_allowed = access.is_allowed(request.user, attempt)
    return {"allowed": is_allowed, "reason": "" if is_allowed else "no RBAC policy matched"}


def _rules(access: Access, request: Request, spec: dict[str, Any]) -> dict[str, Any]:
    rules = access.rules(request.user, spec.get("namespace", ""))
    return {"resourceRules": rules, "nonResourceRules": [], "incomplete": False}
