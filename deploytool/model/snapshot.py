"""What was observed, once, before any check looks at it.

Offline, ``deploytool.manifests`` fills it from files. Live, whoever looks at the cluster and the service yields one
snapshot after another, each with more in it and with less ``pending``, so that items can be judged as soon as what they
need has been seen::

    snapshot = Snapshot(Depth.PROBE, at=clock.wall(), target=target, pending=needs)
    snapshot = snapshot.with_seen(objects=(...), unread={...})
    yield snapshot
    snapshot = snapshot.with_seen(status=Unseen("the service did not answer within 5 s", "..."))
    yield snapshot
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from deploytool.model.observations import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deploytool.model.finding import Depth
    from deploytool.model.nginx import Directive
    from deploytool.model.node import Node
    from deploytool.model.observations import (
        Attestation,
        DocumentTrial,
        GaugeTrial,
        HandshakeTrial,
        LoadReport,
        OriginTrial,
        PrometheusRules,
        RateTrial,
        RolloutRecord,
        ScaleTrial,
        Scrape,
        Status,
        TlsTrial,
        TokenTrial,
    )

__all__ = ("OBSERVED", "WORKLOADS", "Snapshot", "Target")

WORKLOADS = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Rollout", "DaemonSet"})
"""Kinds of objects that run copies of a pod."""

_AUTOSCALERS = frozenset({"HorizontalPodAutoscaler", "ScaledObject"})

_NOT_LOOKED_AT = Unseen("it was not looked at", failed=False)


@dataclass(frozen=True, slots=True)
class Target:
    """What is being checked, as remediations name it.

    Attributes:
        workload: Name of the one workload; empty offline, where it is not known before the files are read.
        namespace: Empty offline.
        release: Helm's release; empty when Helm does not own it.
        context: Of the kubeconfig; empty offline and in a pod.
        url: Public address of the service, such as ``wss://realtime.example.org``; empty when it is not known.
        user: Who asks, as the API server names them; empty offline.
        sources: Files, offline.
    """

    workload: str = ""
    namespace: str = ""
    release: str = ""
    context: str = ""
    url: str = ""
    user: str = ""
    sources: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        """Name it for people."""
        if self.sources:
            return ", ".join(self.sources)
        where = f"{self.namespace}/{self.workload}" if self.namespace else self.workload
        return f"{where} in {self.context}" if self.context else where


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was observed, frozen.

    Attributes:
        depth: How far was looked.
        at: When it was begun, in unix seconds.
        names: Workloads to which the user limited the check; empty for all of the files. Unused live.
        objects: Kubernetes objects, raw. Live: the workload itself, everything that could be a second one behind its
            Service (all workloads of the namespace), ReplicaSets apart; its Pods (those being deleted too), Services,
            Ingresses, HTTPRoutes, HorizontalPodAutoscalers, ScaledObjects, PodDisruptionBudgets, PrometheusRules,
            ServiceMonitors, and the ValidatingAdmissionPolicies and bindings of the release.
        unread: Kinds of objects that could not be read, and why. A kind whose API the cluster does not have is none of
            them: there simply is no such object. Offline it is empty, and a kind that no file holds says nothing.
        compose: Services of compose files: the node's path ends in the service's name, ``services.web.``.
        values: Values files of charts that could not be rendered.
        unrendered: Charts that could not be rendered, by their path, and why.
        proxies: nginx configurations, a nameless block for each file.
        document_count: YAML documents read, also those that hold nothing of interest.
        rollouts: What is on record of rollouts that are over.
        load: The report of a load test made now, or else the newest stored one; None when none is stored.
        documents: Every ``runbook_url`` of the release's alerts and every ``url`` of its attestations, fetched now.
        pending: Names of fields that are still to come; they must not be judged yet.
    """

    depth: Depth
    at: float
    target: Target = field(default_factory=Target)
    names: frozenset[str] = frozenset()
    # what files or the cluster hold
    objects: tuple[Node, ...] = ()
    unread: Mapping[str, Unseen] = field(default_factory=dict)
    compose: tuple[Node, ...] = ()
    values: tuple[Node, ...] = ()
    unrendered: Mapping[str, Unseen] = field(default_factory=dict)
    proxies: tuple[Directive, ...] = ()
    document_count: int = 0
    # what the cluster and the service say
    scale_trial: ScaleTrial | Unseen = _NOT_LOOKED_AT
    status: Status | Unseen = _NOT_LOOKED_AT
    scrape: Scrape | Unseen = _NOT_LOOKED_AT
    prometheus: PrometheusRules | Unseen = _NOT_LOOKED_AT
    attestations: tuple[Attestation, ...] | Unseen = _NOT_LOOKED_AT
    rollouts: tuple[RolloutRecord, ...] | Unseen = _NOT_LOOKED_AT
    documents: tuple[DocumentTrial, ...] | Unseen = _NOT_LOOKED_AT
    # what traffic shows
    handshakes: tuple[HandshakeTrial, ...] | Unseen = _NOT_LOOKED_AT
    origins: tuple[OriginTrial, ...] | Unseen = _NOT_LOOKED_AT
    tokens: tuple[TokenTrial, ...] | Unseen = _NOT_LOOKED_AT
    gauge: GaugeTrial | Unseen = _NOT_LOOKED_AT
    rate: RateTrial | Unseen = _NOT_LOOKED_AT
    tls: TlsTrial | Unseen = _NOT_LOOKED_AT
    load: LoadReport | Unseen | None = _NOT_LOOKED_AT
    pending: frozenset[str] = frozenset()

    def with_seen(self, **fields: Any) -> Snapshot:  # noqa: ANN401  # each field has a type of its own
        """Return one with these fields filled in, and no longer pending."""
        return dataclasses.replace(self, **fields, pending=self.pending - fields.keys())

    def of_kind(self, *kinds: str) -> Iterator[Node]:
        """Yield the objects of these kinds, in the order in which they were read."""
        return (one for one in self.objects if one.kind in kinds)

    def only(self, names: frozenset[str]) -> Snapshot:
        """Return what concerns the workloads of these names; an empty set keeps everything."""
        if not names:
            return self
        return dataclasses.replace(
            self,
            names=names,
            objects=tuple(one for one in self.objects if _concerns(one, names)),
            compose=tuple(one for one in self.compose if one.path.removeprefix("services.").removesuffix(".") in names),
        )


def _concerns(one: Node, names: frozenset[str]) -> bool:
    if one.kind in WORKLOADS:
        return one.name in names
    if one.kind in _AUTOSCALERS:
        return one.child("spec", "scaleTargetRef").text("name") in names
    return True


OBSERVED = frozenset(one.name for one in dataclasses.fields(Snapshot)) - {
    "depth",
    "at",
    "target",
    "names",
    "unread",
    "compose",
    "values",
    "unrendered",
    "proxies",
    "document_count",
    "pending",
}
"""Fields that are looked at live, one by one."""
