"""Who asks, and what the roles of the cluster let them do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.kinds import Kinds
    from tests.simcluster.store import Object, Store

__all__ = ("ADMIN", "Access", "Attempt", "User")


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Attributes:
        groups: Besides ``system:authenticated``, which everybody is in.
    """

    name: str
    groups: tuple[str, ...] = ()

    @classmethod
    def service_account(cls, namespace: str, name: str) -> User:
        """Return what a pod with this account is known as."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return cls(f"system:serviceaccount:{namespace}:{name}", groups)

    def info(self) -> dict[str, Any]:
        """Return a ``UserInfo``."""
        return {"username": self.name, "groups": [*self.groups, "system:authenticated"]}


ADMIN = User("admin", ("system:masters",))


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody wants to do; ``resource`` has its subresource after a slash."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


class Access:
    """Judges by Roles and their bindings, as RBAC does."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds

    def is_allowed(self, user: User, attempt: Attempt) -> bool:
        """Judge one attempt."""
        if "system:masters" in user.groups or _is_basic(attempt):
            return True
        return any(_covers(rule, attempt) for rule in self.rules(user, attempt.namespace))

    def require(self, user: User, attempt: Attempt) -> None:
        """Let an attempt through.

        Raises:
            ApiError: 403, when it is not allowed.
        """
        if self.is_allowed(user, attempt):
            return
        where = f' in the namespace "{attempt.namespace}"' if attempt.namespace else " at the cluster scope"
        plural = f"{attempt.resource}.{attempt.group}" if attempt.group else attempt.resource
        raise ApiError(
            403,
            "Forbidden",
            f"{plural.partition('/')[0]}{f' {chr(34)}{attempt.name}{chr(34)}' if attempt.name else ''} is forbidden: "
            f'User "{user.name}" cannot {attempt.verb} resource "{attempt.resource}" in API group '
            f'"{attempt.group}"{where}',
            details={"name": attempt.name, "group": attempt.group, "kind": attempt.resource.partition("/")[0]},
        )

    def rules(self, user: User, namespace: str) -> list[dict[str, Any]]:
        """Return every rule that speaks for a user in a namespace."""
        if "system:masters" in user.groups:
            return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        bindings = list(self._store.all(self._kinds.get("ClusterRoleBinding")))
        if namespace:
            bindings += self._store.all(self._kinds.get("RoleBinding"), namespace)
        found: list[dict[str, Any]] = []
        for binding in bindings:
            if any(_is_subject(subject, user) for subject in binding.get("subjects") or ()):
                found += self._role_rules(binding)
        return found

    def _role_rules(self, binding: Object) -> Iterator[dict[str, Any]]:
        reference = binding["roleRef"]
        kind = self._kinds.get(reference["kind"])
        namespace = binding["metadata"].get("namespace", "") if kind.is_namespaced else ""
        role = self._store.get(kind, namespace, reference["name"]) or {}
        yield from role.get("rules") or ()


def _is_subject(subject: dict[str, Any], user: User) -> bool:
    match subject["kind"]:
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in (*user.groups, "system:authenticated")
        case _:
            return user.name == f"system:serviceaccount:{subject.get('namespace', '')}:{subject['name']}"


def _is_basic(attempt: Attempt) -> bool:
    """Whether everybody may: the ClusterRole ``system:basic-user`` is bound to whoever is authenticated."""
    return attempt.verb == "create" and attempt.resource.startswith("selfsubject")


def _covers(rule: dict[str, Any], attempt: Attempt) -> bool:
    names = rule.get("resourceNames") or ()
    resource, _, subresource = attempt.resource.partition("/")
    resources = {attempt.resource, "*"} | ({f"*/{subresource}"} if subresource else {resource})
    return (
        bool({attempt.verb, "*"} & set(rule.get("verbs") or ()))
        and bool({attempt.group, "*"} & set(rule.get("apiGroups") or ()))
        and bool(resources & set(rule.get("resources") or ()))
        and (not names or attempt.name in names)
    )
