"""What can go wrong between us and the API server, wrapped once.

::

    UnverifiedError
    └── ClusterError                 could not verify; ends with 5
        ├── ClientMissingError       the official client is not installed; ends with 2
        ├── KubeconfigError          there is no usable configuration; ends with 2
        ├── UnreachableError         nobody answers, or not in time
        ├── CertificateError         somebody answers whose certificate is not believed
        ├── CredentialsError         401
        ├── ForbiddenError           403 by RBAC; knows the rule that would allow it
        ├── RefusedError             an admission policy or webhook, or the validation, said no
        ├── NotServedError           404 of a whole kind: this cluster has no such API
        ├── MissingError             404 of one object
        ├── ConflictError            409
        ├── AnswerError              5xx, or something that is no answer of an API server
        └── SelectionError           which workload is meant; ends with 2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from deploytool.errors import UnverifiedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = (
    "AnswerError",
    "CertificateError",
    "ClientMissingError",
    "ClusterError",
    "ConflictError",
    "CredentialsError",
    "ForbiddenError",
    "KubeconfigError",
    "MissingError",
    "NotServedError",
    "RefusedError",
    "SelectionError",
    "UnreachableError",
)


_NAMELESS: Final = frozenset({"create", "list", "watch", "deletecollection"})


class ClusterError(UnverifiedError):
    """Something about the cluster could not be found out.

    Attributes:
        retry_seconds: For which the API server asked to be left alone; 0 when it did not say.
    """

    retry_seconds: float = 0.0


class ClientMissingError(ClusterError):
    """The official client is not installed."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            "looking at a cluster needs the packages kubernetes and httpx, and they are not installed",
            "Install them: pip install 'slackwater[deploytool]'. --offline works without them.",
        )


class KubeconfigError(ClusterError):
    """There is no usable configuration of a cluster."""

    exit_code = 2


class UnreachableError(ClusterError):
    """The API server does not answer."""


class CertificateError(ClusterError):
    """The certificate of the API server is not believed: expired, for another name, or of another authority."""


class CredentialsError(ClusterError):
    """The API server does not know who we are."""


class RefusedError(ClusterError):
    """The API server would have let us, but a policy, a webhook or its own validation refused what we asked for.

    Attributes:
        policy: Name of the ValidatingAdmissionPolicy that refused; empty when it was something else.
        is_by_admission: A policy or a webhook refused; False when the API server itself takes it for invalid.
    """

    def __init__(self, problem: str, *, policy: str = "", is_by_admission: bool = False) -> None:
        super().__init__(problem)
        self.policy = policy
        self.is_by_admission = is_by_admission


class NotServedError(ClusterError):
    """This cluster does not have the API of a kind."""


class MissingError(ClusterError):
    """There is no object of this name."""


class ConflictError(ClusterError):
    """The object is there already, somebody changed it meanwhile, or fields of it belong to others.

    Attributes:
        owners: Of a server-side apply: the fields in its way, by the name of their field manager.
    """

    def __init__(self, problem: str, *, owners: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(problem)
        self.owners = owners or {}


class AnswerError(ClusterError):
    """The API server failed, or what answered is none."""


class SelectionError(ClusterError):
    """It is not clear which workload is meant, or it is not one of ours."""

    exit_code = 2


class ForbiddenError(ClusterError):
    """RBAC does not let us.

    Args:
        verb: As in a rule, such as ``list``.
        group: Empty for the core group.
        resource: Plural, with the subresource after a slash.
        name: Empty for a whole collection.
        namespace: Empty for what belongs to the cluster.
        user: Who we are to the API server; empty when it did not say.
    """

    def __init__(
        self, *, verb: str, group: str, resource: str, name: str = "", namespace: str = "", user: str = ""
    ) -> None:
        where = f"in namespace {namespace}" if namespace else "in the cluster"
        what = f"{resource}{f' of {group}' if group else ''}{f' {name}' if name else ''}"
        super().__init__(f"{user or 'the user'} may not {verb} {what} {where}")
        self.verb = verb
        self.group = group
        self.resource = resource
        self.name = name
        self.namespace = namespace
        self.user = user

    @property
    def rule(self) -> str:
        """The RBAC rule that would allow it, in YAML."""
        lines = [f'- apiGroups: ["{self.group}"]', f"  resources: [{self.resource}]"]
        # A name cannot limit what concerns no object that is there already; a part of one is of a named object.
        if self.name and ("/" in self.resource or self.verb not in _NAMELESS):
            lines.append(f'  resourceNames: ["{self.name}"]')
        lines.append(f"  verbs: [{self.verb}]")
        return "\n".join(lines)

    @override
    def __str__(self) -> str:
        kind = "Role" if self.namespace else "ClusterRole"
        return f"{self.problem}. This rule of a {kind} would allow it:\n{self.rule}"
