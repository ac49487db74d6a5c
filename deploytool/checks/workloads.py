"""Which of the things in a snapshot run the service, and with which environment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deploytool.checks.selectors import labels, matches_all, template_labels
from deploytool.model.snapshot import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploytool.model.finding import Evidence
    from deploytool.model.node import Node
    from deploytool.model.snapshot import Snapshot

__all__ = (
    "Environment",
    "Variable",
    "compose_name",
    "container",
    "counted",
    "environments",
    "ingresses",
    "ours",
    "workloads",
)

_OUR_NAMES = frozenset(
    {
        "FRONTEND_URL",
        "NAMESPACES_FILE",
        "REPL_URL",
        "SLACKWATER_MODE",
        "TOKEN_ECDSA_PUBLIC_KEY",
        "TOKEN_HMAC_SECRET",
        "TOKEN_RSA_PUBLIC_KEY",
    }
)
_OUR_PREFIX = "WS_"
_SECRET = frozenset({"ADMIN_KEY", "API_KEY", "DATABASE_DIRECT_URL", "DATABASE_URL", "TOKEN_HMAC_SECRET"})
_HIDDEN = "(not shown)"
_OUR_LABEL = "app.kubernetes.io/name"
_COMPONENT_LABEL = "app.kubernetes.io/component"
_GUARD = "guard"
_NAME = "slackwater"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a container's environment.

    Attributes:
        value: None when it comes from somewhere that was not read, such as a Secret.
        origin: Where it comes from, for people: ``Secret keys``; empty when it stands there itself.
    """

    value: str | None
    evidence: Evidence
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """What one workload hands to the process.

    Attributes:
        node: The workload.
        is_complete: Whether all names are known; false when some come from a file or object that was not read.
    """

    subject: str
    node: Node
    variables: Mapping[str, Variable]
    is_complete: bool = True

    def get(self, name: str) -> Variable | None:
        """Return a variable; None when it is not set, or nothing says so."""
        return self.variables.get(name)


def workloads(snapshot: Snapshot) -> Iterator[Node]:
    """Yield all objects that run pods. What another one of them owns is left out."""
    for one in snapshot.of_kind(*WORKLOADS):
        owners = one.child("metadata").children("ownerReferences")
        if not any(owner.kind in WORKLOADS for owner in owners):
            yield one


def counted(snapshot: Snapshot) -> Iterator[Node]:
    """Yield the workloads that have to be single: all of the files, and live the one that is checked."""
    for one in workloads(snapshot):
        if not snapshot.target.workload or one.name == snapshot.target.workload:
            yield one


def ours(snapshot: Snapshot) -> Iterator[Node]:
    """Yield the workloads that run the service, as far as that can be told."""
    named = snapshot.names or frozenset({snapshot.target.workload} - {""})
    for one in workloads(snapshot):
        if one.name in named or (not named and _is_ours(snapshot, one)):
            yield one


def environments(snapshot: Snapshot) -> Iterator[Environment]:
    """Yield the environment of the service wherever it is run, in compose files too."""
    for one in ours(snapshot):
        yield _of_pod(snapshot, one)
    for service in snapshot.compose:
        environment = _of_compose(service)
        if compose_name(service) in snapshot.names or (not snapshot.names and _has_our_names(environment.variables)):
            yield environment


def ingresses(snapshot: Snapshot) -> Iterator[Node]:
    """Yield the Ingresses that lead to the service; all of them where its Services are not known."""
    pods = [template_labels(one) for one in ours(snapshot)]
    services = {
        service.name
        for service in snapshot.of_kind("Service")
        if any(matches_all(service.child("spec", "selector"), wanted) for wanted in pods)
    }
    for ingress in snapshot.of_kind("Ingress"):
        backends = {backend.child("service").text("name") for backend in _backends(ingress)}
        if not services or services & backends:
            yield ingress


def _backends(ingress: Node) -> Iterator[Node]:
    yield ingress.child("spec", "defaultBackend")
    for rule in ingress.child("spec").children("rules"):
        for path in rule.child("http").children("paths"):
            yield path.child("backend")


def compose_name(service: Node) -> str:
    """Return the name of a compose service."""
    return service.path.removeprefix("services.").removesuffix(".")


def container(workload: Node) -> Node:
    """Return the container of a workload that serves: the one that is named or set up like it, else the first."""
    containers = workload.child("spec", "template", "spec").children("containers")
    for one in containers:
        if one.text("name") == _NAME or any(_is_our_name(entry.text("name")) for entry in one.children("env")):
            return one
    return containers[0] if containers else workload.child("spec", "template", "spec", "containers")


def _is_ours(snapshot: Snapshot, workload: Node) -> bool:
    carried = labels(workload), labels(workload.child("spec", "template"))
    if any(one.get(_COMPONENT_LABEL) == _GUARD for one in carried):
        # Released with the service, from the same image, and serves nobody.
        return False
    return any(one.get(_OUR_LABEL) == _NAME for one in carried) or _has_our_names(_of_pod(snapshot, workload).variables)


def _has_our_names(variables: Mapping[str, Variable]) -> bool:
    return any(_is_our_name(name) for name in variables)


def _is_our_name(name: str) -> bool:
    return name in _OUR_NAMES or name.startswith(_OUR_PREFIX)


def _of_pod(snapshot: Snapshot, workload: Node) -> Environment:
    found: dict[str, Variable] = {}
    is_complete = True
    configured = {one.name: one.child("data") for one in snapshot.of_kind("ConfigMap")}
    serving = container(workload)
    for source in serving.children("envFrom"):
        data = configured.get(source.child("configMapRef").text("name"))
        is_complete = is_complete and data is not None
        if data is not None:
            found |= {
                f"{source.text('prefix')}{key}": Variable(data.text(key), data.setting(key).evidence)
                for key in map(str, data.content)
            }
    for entry in serving.children("env"):
        found[entry.text("name")] = _variable(entry, configured)
    return Environment(workload.subject, workload, _without_secrets(found), is_complete)


def _without_secrets(found: Mapping[str, Variable]) -> Mapping[str, Variable]:
    """Return variables whose evidence repeats no secret; reports are passed around."""
    return {
        name: replace(one, evidence=replace(one.evidence, seen=_HIDDEN)) if name in _SECRET and one.value else one
        for name, one in found.items()
    }


def _variable(entry: Node, configured: Mapping[str, Node]) -> Variable:
    evidence = entry.setting("value").evidence
    if "valueFrom" not in entry:
        return Variable(entry.text("value"), evidence)
    source = entry.child("valueFrom")
    reference = source.child("configMapKeyRef")
    data = configured.get(reference.text("name"))
    if data is not None and reference.text("key") in data:
        return Variable(data.text(reference.text("key")), data.setting(reference.text("key")).evidence)
    kind = "Secret" if "secretKeyRef" in source else "ConfigMap" if reference.content else "field"
    name = source.child("secretKeyRef").text("name") or reference.text("name")
    return Variable(None, entry.setting("valueFrom").evidence, f"{kind} {name}".rstrip())


def _of_compose(service: Node) -> Environment:
    given = service.content.get("environment")
    found: dict[str, Variable] = {}
    if isinstance(given, list):
        evidence = service.setting("environment").evidence  # of the list as a whole, which shows no value
        for entry in service.texts("environment"):
            name, assigned, value = entry.partition("=")
            found[name] = Variable(value if assigned and "${" not in value else None, evidence, "the environment")
    else:
        node = service.child("environment")
        for name in map(str, node.content):
            text = _composed(node.content.get(name))
            found[name] = Variable(text, node.setting(name).evidence, "the environment" if text is None else "")
    subject = f"Service (compose) {compose_name(service)}"
    return Environment(subject, service, _without_secrets(found), "env_file" not in service)


def _composed(value: object) -> str | None:
    """Return a value of a compose file as text; None when it is handed through or could not be put in."""
    if value is None or isinstance(value, list | dict) or "${" in str(value):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)
