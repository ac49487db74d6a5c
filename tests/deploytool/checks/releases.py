"""A release with nothing wrong: the chart's own objects, and what a cluster and a service would say of it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

from deploytool.checks import catalog, evaluation
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Depth, Item, Outcome, Report, Result
from deploytool.model.node import Node, Place
from deploytool.model.observations import (
    Attestation,
    Database,
    DatabaseServer,
    DocumentTrial,
    Drill,
    GaugeTrial,
    HandshakeTrial,
    LoadReport,
    OriginKind,
    OriginTrial,
    PlainAnswer,
    Pool,
    RateTrial,
    ScaleTrial,
    Scrape,
    Status,
    TlsTrial,
    TokenKind,
    TokenTrial,
    Unseen,
)
from deploytool.model.snapshot import Snapshot, Target
from tests.helm.rendering import Manifest, render, values_of

__all__ = (
    "DIGEST",
    "EXPECTATIONS",
    "NAME",
    "NOW",
    "RUNBOOKS",
    "edited",
    "judge",
    "only",
    "release",
    "result",
    "with_objects",
)

NOW = 1_800_000_000.0
DAY = 86_400.0
NAME = "live-slackwater"
NAMESPACE = "realtime"
DIGEST = "sha256:" + "9f" * 32
SITE = "https://app.example.org"
RUNBOOKS = "https://docs.example.org/runbooks"
PUBLIC = "wss://realtime.example.org"
ADA = "ada@example.org"
EXPECTATIONS = Expectations(roster=(ADA,))

_VALUES = (
    f"settings.frontendUrl={SITE}",
    f"image.digest={DIGEST}",
    "persistence.enabled=true",
    "ingress.enabled=true,ingress.host=realtime.example.org",
    "monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true",
    f"monitoring.runbookBaseUrl={RUNBOOKS}",
    "admissionPolicy.enabled=true",
)


@cache
def _rendered() -> tuple[Manifest, ...]:
    objects = render(values_of(*_VALUES), namespace=NAMESPACE).values()
    return tuple(one for one in objects if one["kind"] != "Pod")  # that of helm test


def _place(kind: str) -> Place:
    return Place(f"GET {kind}", at=NOW)


def _pod() -> Manifest:
    (deployment,) = (one for one in _rendered() if one["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    metadata = {"name": f"{NAME}-0a1b2c-xyz", "namespace": NAMESPACE, "labels": labels}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}}


def objects() -> tuple[Node, ...]:
    """Return what the cluster holds of the release."""
    manifests = (*copy.deepcopy(_rendered()), _pod())
    return tuple(Node(_place(one["kind"]), one) for one in manifests)


def _attestation(item: str, *, url: str = "", drill: Drill | None = None) -> Attestation:
    return Attestation(
        source=f"ConfigMap {item}",
        at=NOW,
        name=f"attestation-{item.partition('.')[2]}",
        item=item,
        who=ADA,
        is_shared=False,
        made_at=NOW - 10 * DAY,
        expires_at=NOW + 100 * DAY,
        url=url,
        sha256="ab" * 32 if url else "",
        drill=drill,
    )


def _attestations() -> tuple[Attestation, ...]:
    return (
        _attestation("documentation.team-trained"),
        _attestation("documentation.deployment-procedure", url="https://docs.example.org/deploy"),
        _attestation(
            "documentation.rollback-procedure",
            url="https://docs.example.org/rollback",
            drill=Drill(NOW - 20 * DAY, "rollout 7"),
        ),
        _attestation("documentation.runbooks", url=f"{RUNBOOKS}/index"),
    )


def _documents(nodes: tuple[Node, ...]) -> tuple[DocumentTrial, ...]:
    rules = (
        rule.child("annotations").text("runbook_url")
        for one in nodes
        if one.kind == "PrometheusRule"
        for group in one.child("spec").children("groups")
        for rule in group.children("rules")
    )
    urls = {*rules, *(one.url for one in _attestations() if one.url)}
    return tuple(DocumentTrial(NOW, url, 200, "ab" * 32) for url in sorted(urls))


def _origins() -> tuple[OriginTrial, ...]:
    tried = {
        OriginKind.ALLOWED: SITE,
        OriginKind.FOREIGN: "https://evil.example",
        OriginKind.NULL: "null",
        OriginKind.SUFFIX: f"{SITE}.evil.example",
        OriginKind.INSECURE: SITE.replace("https", "http"),
    }
    return tuple(
        OriginTrial(
            PUBLIC,
            NOW,
            kind,
            origin,
            kind is OriginKind.ALLOWED,
            "HTTP 101" if kind is OriginKind.ALLOWED else "HTTP 403",
        )
        for kind, origin in tried.items()
    )


def _tokens() -> tuple[TokenTrial, ...]:
    good = TokenKind.GOOD
    return tuple(
        TokenTrial(PUBLIC, NOW, kind, kind is good, "connected" if kind is good else "3500") for kind in TokenKind
    )


def release() -> Snapshot:
    """Return everything that a probing check sees of a release that is as it should be."""
    nodes = objects()
    return Snapshot(
        Depth.PROBE,
        NOW,
        Target(NAME, NAMESPACE, "live", url=PUBLIC),
        objects=nodes,
        scale_trial=ScaleTrial("PATCH scale", NOW, refused=True, message="at most 1 is allowed"),
        status=Status(
            "GET status", NOW, "i-1", "ACTIVE", 12,
            limits={"max_connections": 1000, "messages_per_minute": 100, "ping_interval_seconds": 30},
            lock="database",
            image_digest=DIGEST,
            database=Database("postgres", pool=Pool(5, 5, 1, 3), server=DatabaseServer(100, 3, 20)),
        ),
        scrape=Scrape(
            "GET /metrics", NOW,
            {"slackwater_connections": 12, "slackwater_connections_probe": 0, "slackwater_connections_limit": 1000},
        ),
        attestations=_attestations(),
        rollouts=(),
        documents=_documents(nodes),
        handshakes=tuple(HandshakeTrial(PUBLIC, NOW, "i-1") for _ in range(5)),
        origins=_origins(),
        tokens=_tokens(),
        gauge=GaugeTrial(PUBLIC, NOW, 5, 0, 5, 0),
        rate=RateTrial(PUBLIC, NOW, 101, 111, recovered=True),
        tls=TlsTrial(PUBLIC, NOW, "realtime.example.org", "", "TLSv1.3", NOW + 60 * DAY,
            accepts_old=False, plain=PlainAnswer.REDIRECTED,
        ),
        load=LoadReport("ConfigMap load", NOW - DAY, DIGEST, 100, 500, 50_000, 0, 0, 10.0, 0.004, 0.02),
    )  # fmt: skip


def edited(kind: str, edit: Callable[[dict[str, Any]], object], name: str = "") -> Callable[[Snapshot], Snapshot]:
    """Return what changes the objects of a kind, or the one of that name."""

    def change(snapshot: Snapshot) -> Snapshot:
        nodes = tuple(copy.deepcopy(one) for one in snapshot.objects)
        found = [one for one in nodes if one.kind == kind and name in {"", one.name}]
        assert found, kind
        for one in found:
            assert isinstance(one.content, dict)
            edit(one.content)
        return dataclasses.replace(snapshot, objects=nodes)

    return change


def with_objects(*manifests: Manifest) -> Callable[[Snapshot], Snapshot]:
    """Return what adds objects."""
    added = tuple(Node(_place(one["kind"]), one) for one in manifests)
    return lambda snapshot: dataclasses.replace(snapshot, objects=(*snapshot.objects, *added))


def without(kind: str, name: str = "") -> Callable[[Snapshot], Snapshot]:
    """Return what takes the objects of a kind away, or those whose name ends so."""
    return lambda snapshot: dataclasses.replace(
        snapshot, objects=tuple(one for one in snapshot.objects if one.kind != kind or not one.name.endswith(name))
    )


def seen(**fields: object) -> Callable[[Snapshot], Snapshot]:
    """Return what puts other observations in."""
    return lambda snapshot: snapshot.with_seen(**fields)


def changed(field: str, **parts: object) -> Callable[[Snapshot], Snapshot]:
    """Return what changes parts of one observation."""
    return lambda snapshot: snapshot.with_seen(**{field: dataclasses.replace(getattr(snapshot, field), **parts)})


def unseen(field: str) -> Callable[[Snapshot], Snapshot]:
    """Return what takes one observation away."""
    return seen(**{field: Unseen("the connection timed out", "Open the port, then check again.")})


def unread(*kinds: str) -> Callable[[Snapshot], Snapshot]:
    """Return what makes kinds of objects unreadable."""

    def change(snapshot: Snapshot) -> Snapshot:
        why = Unseen("list is forbidden", "- apiGroups: [...]")
        kept = tuple(one for one in snapshot.objects if one.kind not in kinds)
        return dataclasses.replace(snapshot, objects=kept, unread=dict.fromkeys(kinds, why))

    return change


def judge(
    snapshot: Snapshot, expectations: Expectations = EXPECTATIONS, items: tuple[Item, ...] = catalog.ITEMS
) -> Report:
    """Judge a snapshot by the whole checklist."""
    return evaluation.evaluate(snapshot, expectations, items)


def result(report: Report, number: int) -> Result:
    """Return what is said of one item."""
    (found,) = (one for one in report.results if one.item.number == number)
    return found


def only(report: Report, *outcomes: Outcome) -> set[int]:
    """Return the numbers of the items with these outcomes."""
    return {one.item.number for one in report.results if one.outcome in outcomes}
