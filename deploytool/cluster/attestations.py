"""Attestations, load reports and records of rollouts: immutable ConfigMaps, one each, in the name of who makes them.

The chart's admission policy refuses one whose ``who`` is not the requesting user, whoever writes it and however. Where
there is no such policy, or the user stands for several people, nobody can say who vouched for what.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from deploytool.cluster.client import FIELD_MANAGER
from deploytool.cluster.errors import RefusedError
from deploytool.cluster.records import RECORD, record_of
from deploytool.cluster.resources import CONFIG_MAPS
from deploytool.cluster.selection import ATTESTATION_OF
from deploytool.model.observations import Attestation, Drill, LoadReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.cluster.client import Cluster, Identity
    from deploytool.model.observations import RolloutRecord

__all__ = ("Statement", "Stored", "is_shared", "newest_load_report", "read", "revoke", "store", "store_load_report")

_ITEM: Final = "slackwater.dev/attestation-item"
_MASTERS: Final = "system:masters"
_SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_NAME_CHARACTERS: Final = 12
_REPORT: Final = "report"
_REPORT_FIELDS: Final = (
    "image_digest",
    "connections",
    "publications",
    "deliveries",
    "lost",
    "errors",
    "duration_seconds",
    "p50_seconds",
    "p99_seconds",
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody vouches for.

    Attributes:
        item: Id of the item.
        expires_at: In unix seconds.
        url: The document; empty where the item needs none.
        sha256: Of the document as it is now, in hexadecimal.
        drill: Of a rollback; None for none.
    """

    item: str
    expires_at: float
    url: str = ""
    sha256: str = ""
    drill: Drill | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the cluster holds of one workload.

    Attributes:
        attestations: The newest first.
        reports: Of load tests, the newest first.
        rollouts: That are over, the newest first.
        unreadable: ConfigMaps with the label that are none of these, by name, and why.
    """

    attestations: tuple[Attestation, ...]
    reports: tuple[LoadReport, ...]
    rollouts: tuple[RolloutRecord, ...]
    unreadable: Mapping[str, str]


def is_shared(identity: Identity) -> bool:
    """Whether a user stands for several people."""
    return _MASTERS in identity.groups or identity.username.startswith(_SERVICE_ACCOUNT)


def store(cluster: Cluster, workload: str, identity: Identity, statement: Statement, *, dry_run: bool = False) -> str:
    """Store an attestation in one's own name, or ask whether it could be; returns the name of the ConfigMap.

    Raises:
        RefusedError: An admission policy does not let us.
    """
    data = {
        "item": statement.item,
        "expiresAt": _rfc3339(statement.expires_at),
        **({"url": statement.url, "sha256": statement.sha256} if statement.url else {}),
        **({"drillAt": _rfc3339(statement.drill.at), "drill": statement.drill.reference} if statement.drill else {}),
    }
    return _create(cluster, workload, identity, data, dry_run=dry_run)


def store_load_report(cluster: Cluster, workload: str, identity: Identity, item: str, report: LoadReport) -> str:
    """Store the report of a load test, and return the name of the ConfigMap."""
    content = {name: getattr(report, name) for name in _REPORT_FIELDS} | {"at": report.at}
    return _create(cluster, workload, identity, {"item": item, _REPORT: json.dumps(content, indent=1)})


def _create(
    cluster: Cluster, workload: str, identity: Identity, data: Mapping[str, str], *, dry_run: bool = False
) -> str:
    shared = {"groups": _MASTERS} if _MASTERS in identity.groups else {}
    whole = {"who": identity.username, **shared, **data}
    seed = json.dumps([whole, cluster.clock.wall()], sort_keys=True)
    name = f"{workload}-attestation-{hashlib.sha256(seed.encode()).hexdigest()[:_NAME_CHARACTERS]}"
    body = {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "name": name,
            "labels": {ATTESTATION_OF: workload, _ITEM: data["item"], "app.kubernetes.io/managed-by": FIELD_MANAGER},
        },
        "immutable": True,
        "data": whole,
    }
    try:
        cluster.create(CONFIG_MAPS, body, dry_run=dry_run)
    except RefusedError as error:
        raise RefusedError(
            f"the cluster refused the attestation: {error.problem}", policy=error.policy, is_by_admission=True
        ) from error
    return name


def read(cluster: Cluster, workload: str) -> Stored:
    """Return what is stored for a workload."""
    at = cluster.clock.wall()
    listing = cluster.all(CONFIG_MAPS, labels=f"{ATTESTATION_OF}={workload}")
    attestations: list[Attestation] = []
    reports: list[LoadReport] = []
    rollouts: list[RolloutRecord] = []
    unreadable: dict[str, str] = {}
    for one in listing.items:
        name = str(one["metadata"]["name"])
        data = one.get("data") or {}
        try:
            if one.get("immutable") is not True:
                unreadable[name] = "it can be changed"
            elif _REPORT in data:
                reports.append(_report(one, data))
            elif RECORD in data:
                rollouts.append(record_of(one, data, at))
            else:
                attestations.append(_attestation(one, data, at))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            unreadable[name] = f"{type(error).__name__}: {error}"
    return Stored(
        tuple(sorted(attestations, key=lambda one: -one.made_at)),
        tuple(sorted(reports, key=lambda one: -one.at)),
        tuple(sorted(rollouts, key=lambda one: -one.ended_at)),
        unreadable,
    )


def newest_load_report(stored: Stored) -> LoadReport | None:
    """Return the newest report; None when there is none."""
    return stored.reports[0] if stored.reports else None


def revoke(cluster: Cluster, workload: str, name: str) -> None:
    """Delete an attestation.

    Raises:
        MissingError: There is none of this name.
        RefusedError: There is a ConfigMap of this name, and it is no attestation of this workload.
    """
    found = cluster.get(CONFIG_MAPS, name)
    labels = found["metadata"].get("labels") or {}
    if labels.get(ATTESTATION_OF) != workload:
        raise RefusedError(f"ConfigMap {name} is no attestation of {workload}, so it stays")
    cluster.delete(CONFIG_MAPS, name, uid=str(found["metadata"].get("uid", "")))


def _attestation(one: Mapping[str, Any], data: Mapping[str, str], at: float) -> Attestation:
    who = data["who"]
    drill = Drill(_seconds(data["drillAt"]), data["drill"]) if "drillAt" in data else None
    return Attestation(
        source=_source(one),
        at=at,
        name=one["metadata"]["name"],
        item=data["item"],
        who=who,
        is_shared=who.startswith(_SERVICE_ACCOUNT) or _MASTERS in data.get("groups", ""),
        # The API server's clock, which whoever attests cannot set.
        made_at=_seconds(one["metadata"]["creationTimestamp"]),
        expires_at=_seconds(data["expiresAt"]),
        url=data.get("url", ""),
        sha256=data.get("sha256", ""),
        drill=drill,
    )


def _report(one: Mapping[str, Any], data: Mapping[str, str]) -> LoadReport:
    content = json.loads(data[_REPORT])
    made_at = _seconds(one["metadata"]["creationTimestamp"])
    numbers = {name: _number(content[name]) for name in _REPORT_FIELDS[1:]}
    counts = {name: int(value) for name, value in numbers.items() if not name.endswith("_seconds")}
    times = {name: value for name, value in numbers.items() if name.endswith("_seconds")}
    # A report cannot be younger than the object that holds it.
    at = min(_number(content["at"]), made_at + 1.0)
    return LoadReport(
        source=_source(one),
        at=at,
        image_digest=str(content["image_digest"] or ""),
        connections=counts["connections"],
        publications=counts["publications"],
        deliveries=counts["deliveries"],
        lost=counts["lost"],
        errors=counts["errors"],
        duration_seconds=times["duration_seconds"],
        p50_seconds=times["p50_seconds"],
        p99_seconds=times["p99_seconds"],
    )


def _source(one: Mapping[str, Any]) -> str:
    return f"ConfigMap {one['metadata']['name']}"


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    return value


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
