"""Records of rollouts that are over: immutable ConfigMaps, one each, beside the attestations.

They carry the label of attestations, so that whoever reads those has read these, and the chart's admission policy
refuses one in another's name. A record says what became of a rollout, and holds no secret.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from deploytool.cluster.client import FIELD_MANAGER
from deploytool.cluster.errors import ConflictError, RefusedError
from deploytool.cluster.resources import CONFIG_MAPS
from deploytool.cluster.retrying import transient
from deploytool.cluster.selection import ATTESTATION_OF
from deploytool.model.observations import RolloutRecord
from deploytool.rollout.phases import Phase
from deploytool.rollout.ports import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploytool.cluster.client import Cluster
    from deploytool.cluster.rights import Right
    from deploytool.rollout.journal import Journal

__all__ = ("RECORD", "VERSION", "ClusterRecords", "record_of", "rights")

RECORD: Final = "rollout"
"""Key of the data of a ConfigMap that holds a record."""

VERSION: Final = 1
_ITEM: Final = "documentation.rollback-procedure"
_ITEM_LABEL: Final = "slackwater.dev/attestation-item"
_MOST_TEXT: Final = 300
_MOST_BYTES: Final = 16_384
_MOST_GAPS: Final = 4
_PLAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_HASHED: Final = 12
_LATEST: Final = 253_402_300_800.0
_OUTCOMES: Final = (Phase.COMMIT.value, Phase.ROLLED_BACK.value)
_TEXTS: Final = ("rollout", "workload", "from", "to", "outcome", "failure")
_TRUTHS: Final = ("was_switched", "is_drill")


def rights() -> Iterator[Right]:
    """Yield what keeping a record takes."""
    yield "create", CONFIG_MAPS, "", ""


class ClusterRecords(Records):
    """The records of one workload.

    Args:
        cluster: Where.
        workload: Whose.
        gaps: Returns for how long nobody was connected, each as the least and the most that it can have been, in
            seconds; empty when that was not seen.
    """

    def __init__(
        self, cluster: Cluster, workload: str, gaps: Callable[[], Sequence[tuple[float, float]]] = tuple
    ) -> None:
        self._cluster = cluster
        self._workload = workload
        self._gaps = gaps

    @override
    def store(self, journal: Journal, *, is_drill: bool) -> str:
        name = f"{self._workload}-rollout-{_part_of_name(journal.rollout)}"
        content = _content(journal, self._gaps(), is_drill=is_drill)
        with transient():
            who = self._cluster.identity().username
            body = {
                "apiVersion": CONFIG_MAPS.api_version,
                "kind": CONFIG_MAPS.kind,
                "metadata": {
                    "name": name,
                    "labels": {
                        ATTESTATION_OF: self._workload,
                        _ITEM_LABEL: _ITEM,
                        "app.kubernetes.io/managed-by": FIELD_MANAGER,
                    },
                },
                "immutable": True,
                "data": {"who": who, "item": _ITEM, RECORD: json.dumps(content, indent=1)},
            }
            try:
                self._cluster.create(CONFIG_MAPS, body)
            except ConflictError:
                self._require_same(name, journal)
        return name

    def _require_same(self, name: str, journal: Journal) -> None:
        """See that what is there is the record of this rollout: somebody stored it, or only our answer was lost."""
        found = self._cluster.get(CONFIG_MAPS, name)
        try:
            known = json.loads((found.get("data") or {})[RECORD])["rollout"]
        except (KeyError, TypeError, ValueError, RecursionError):
            known = None
        if known != _cut(journal.rollout):
            raise RefusedError(f"there is a ConfigMap {name} already, and it is not the record of this rollout")


def record_of(one: Mapping[str, Any], data: Mapping[str, str], at: float) -> RolloutRecord:
    """Return what a ConfigMap has on record.

    Args:
        one: The ConfigMap.
        data: Its data.
        at: When it was read, in unix seconds.

    Raises:
        ValueError, TypeError, KeyError: It is no record, or one of a newer version.
    """
    text = data[RECORD]
    if len(text) > _MOST_BYTES:
        raise ValueError("it is too long")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError("it is no mapping")
    if found["version"] != VERSION:
        raise ValueError(f"it has version {found['version']}, and this deploytool knows {VERSION}")
    texts = {name: found[name] for name in _TEXTS}
    truths = {name: found[name] for name in _TRUTHS}
    if not all(isinstance(value, str) for value in texts.values()):
        raise TypeError("a text is none")
    if not all(isinstance(value, bool) for value in truths.values()):
        raise TypeError("yes or no is neither")
    if texts["outcome"] not in _OUTCOMES:
        raise ValueError(f"{_cut(texts['outcome'])} is no outcome")
    # By the API server's clock, which whoever stores it cannot set; creation is cut down to whole seconds.
    made_at = _seconds(one["metadata"]["creationTimestamp"]) + 1.0
    return RolloutRecord(
        source=f"ConfigMap {one['metadata']['name']}",
        at=at,
        name=str(one["metadata"]["name"]),
        rollout=_cut(texts["rollout"]),
        who=data["who"],
        old=_cut(texts["from"]),
        new=_cut(texts["to"]),
        began_at=min(_seconds(found["began_at"]), made_at),
        ended_at=min(_seconds(found["ended_at"]), made_at),
        was_switched=truths["was_switched"],
        was_rolled_back=texts["outcome"] == Phase.ROLLED_BACK.value,
        is_drill=truths["is_drill"],
        failure=_cut(texts["failure"]),
    )


def _content(journal: Journal, gaps: Sequence[tuple[float, float]], *, is_drill: bool) -> dict[str, Any]:
    first, last = journal.steps[0], journal.steps[-1]
    return {
        "version": VERSION,
        "rollout": _cut(journal.rollout),
        "workload": journal.workload,
        "from": _cut(journal.old),
        "to": _cut(journal.new),
        "reason": _cut(journal.reason),
        "override": _cut(journal.override),
        "began_at": _rfc3339(first.begun_at),
        "ended_at": _rfc3339(last.done_at if last.done_at is not None else last.begun_at),
        "outcome": last.phase.value,
        "was_switched": _was_seen_switched(journal),
        "is_drill": is_drill,
        "failure": _cut(journal.failure),
        "clients": journal.baseline,
        "gaps": [
            {"least_seconds": round(least, 1), "most_seconds": round(most, 1)} for least, most in gaps[:_MOST_GAPS]
        ],
    }


def _was_seen_switched(journal: Journal) -> bool:
    """Return whether the new image was asked for without a doubt: it was done, or waited for."""
    return any(
        (one.phase is Phase.SWITCH and one.done_at is not None) or one.phase in (Phase.READY, Phase.SMOKE)
        for one in journal.steps
    )


def _part_of_name(rollout: str) -> str:
    """Return an id as it may stand in a name; one that may not stands there as its hash."""
    if _PLAIN.fullmatch(rollout):
        return rollout
    return hashlib.sha256(rollout.encode()).hexdigest()[:_HASHED]


def _cut(text: str) -> str:
    return text[:_MOST_TEXT]


def _rfc3339(seconds: float) -> str:
    # A journal is read from the cluster, and may hold anything; the end of a rollout is no place to fail.
    if not 0 <= seconds < _LATEST:
        seconds = 0.0
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} does not say its offset")
    return found.timestamp()
