"""Helm, for a release that it owns: an upgrade to another image, and back.

Nothing that Helm owns is patched beside it.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from deploytool.cluster.difference import differences, release_differences
from deploytool.cluster.helm_process import HelmProcess
from deploytool.cluster.release_record import documents, read_record, write_chart
from deploytool.cluster.release_upgrade import ReleaseUpgrade, deployment_of
from deploytool.cluster.resources import DEPLOYMENTS, SECRETS
from deploytool.cluster.retrying import transient
from deploytool.cluster.workload import Switch, image_of, with_image
from deploytool.errors import DeploytoolError
from deploytool.rollout.errors import PhaseError, RefusedError
from deploytool.rollout.ports import Proposal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploytool.cluster.client import Cluster
    from deploytool.cluster.release_record import ReleaseRecord
    from deploytool.cluster.rights import Right
    from deploytool.rollout.journal import Journal

    Pause = Callable[[float], None]

__all__ = ("HelmSwitch", "image_values")

_DEPLOYED: Final = "deployed"
_WAS_DEPLOYED: Final = frozenset({_DEPLOYED, "superseded"})
_PENDING: Final = "pending"
_GOING: Final = "uninstall"


class HelmSwitch(Switch):
    """One release.

    Args:
        cluster: Where its records are.
        release: Its name.
        chart: Path of another chart than that of the record; empty for that.
    """

    def __init__(self, cluster: Cluster, release: str, *, chart: str = "") -> None:
        self._cluster = cluster
        self._release = release
        self._chart = chart
        self._helm = HelmProcess(cluster, release)

    @property
    @override
    def rights(self) -> Sequence[Right]:
        # Helm does what it does as us, and keeps its records there.
        return tuple((verb, SECRETS, "", "") for verb in ("list", "get", "create", "update"))

    def revision(self) -> int:
        """Return the newest revision that was deployed.

        Raises:
            RefusedError: There is none.
        """
        return self._deployed(self._states())

    def _deployed(self, states: Sequence[tuple[int, str]]) -> int:
        if not states:
            raise RefusedError(f"Helm has no record of release {self._release} in this namespace")
        number, status = states[-1]
        if status.startswith(_GOING):
            raise RefusedError(
                f"release {self._release} is {status} at revision {number}: it has to be installed first"
            )
        found = [one for one, was in states if was in _WAS_DEPLOYED]
        if not found:
            raise RefusedError(
                f"release {self._release} is {status} at revision {number}, and none was ever deployed: its "
                "installation was cut off, and there is nothing to go back to. If what runs is what was to be "
                f"installed, {self._spelled(f'rollback {self._release} {number}')} takes it for deployed; else install "
                "it again"
            )
        return max([one for one, was in states if was == _DEPLOYED] or found)

    def _states(self) -> list[tuple[int, str]]:
        with transient():
            found = self._cluster.all(SECRETS, labels=f"owner=helm,name={self._release}").items
        labels = [one["metadata"].get("labels") or {} for one in found]
        return sorted((int(one.get("version") or 0), str(one.get("status"))) for one in labels)

    def _record(self, revision: int) -> ReleaseRecord:
        with transient():
            return read_record(self._cluster.get(SECRETS, f"sh.helm.release.v1.{self._release}.v{revision}"))

    @override
    def preflight(self, deployment: Mapping[str, Any], image: str) -> Proposal:
        by, states = self._helm.name, self._states()
        record = self._record(self._deployed(states))
        number, status = states[-1]
        pending = f"revision {number} is {status}, and is rolled back first; " if status.startswith(_PENDING) else ""
        before = documents(record.manifest)
        old = deployment_of(before, deployment["metadata"]["name"])
        after = self._put_in(before, old, image) if pending else documents(self._rendered(record, image))
        deployment_of(after, deployment["metadata"]["name"])
        upgrade = ReleaseUpgrade(self._cluster, self._release, deployment, before, after, record.is_applied)
        asked = upgrade.tried()
        self._require_way_back(deployment, old, record.revision, status)
        _require_as_wanted(asked, image)
        but = f"{DEPLOYMENTS.kind} {deployment['metadata']['name']}"
        lines = (
            f"{pending}helm upgrade {self._release} from revision {record.revision} by {by}: image -> {image}",
            *differences(deployment, asked),
            *release_differences(before, after, but=but),
        )
        return Proposal(lines, asked["spec"]["template"])

    def _rendered(self, record: ReleaseRecord, image: str) -> str:
        try:
            with self._chart_folder(record) as chart:
                return self._helm.render(chart, _values(record, image))
        except PhaseError as error:
            raise RefusedError(str(error)) from error

    def _put_in(
        self, before: Sequence[Mapping[str, Any]], old: Mapping[str, Any], image: str
    ) -> Sequence[Mapping[str, Any]]:
        """Return the objects with another image: Helm renders nothing for a release that is pending."""
        if self._chart:
            raise RefusedError(
                f"release {self._release} is pending, and what another chart makes of it cannot be seen before it is "
                f"brought back: {self._spelled(f'rollback {self._release} {self.revision()}')}"
            )
        return [with_image(one, image) if one is old else one for one in before]

    def _require_way_back(
        self, deployment: Mapping[str, Any], old: Mapping[str, Any], revision: int, status: str
    ) -> None:
        if image_of(old) == image_of(deployment):
            return
        words = f"upgrade {self._release} CHART --reuse-values --set {_set(image_of(deployment))}"
        if status.startswith(_PENDING):
            words = f"rollback {self._release} {revision}"
        raise RefusedError(
            f"release {self._release} is {status}, its revision {revision} has image {image_of(old)}, and "
            f"{image_of(deployment)} runs: going back would bring the former. Bring both in line first: "
            f"{self._spelled(words)}"
        )

    @override
    def switch(self, journal: Journal, pause: Pause | None = None) -> str:
        record = self._record(journal.revision or self.revision())
        newest = self.revision()
        if newest != record.revision and self._record(newest).manifest != record.manifest:
            raise PhaseError(
                f"somebody else upgraded release {self._release} meanwhile: it is at revision {newest}, and the "
                f"rollout began from {record.revision}"
            )
        with self._chart_folder(record) as chart:
            try:
                self._helm.upgrade(chart, _values(record, journal.new), pause)
            except PhaseError as error:
                self._undo(journal, record.revision, error, pause)
                raise
        return f"helm upgrade of {self._release} from revision {record.revision}"

    def _undo(self, journal: Journal, revision: int, error: PhaseError, pause: Pause | None) -> None:
        """Bring back what an upgrade changed that failed before it came to the workload."""
        with transient():
            is_switched = image_of(self._cluster.get(DEPLOYMENTS, journal.workload)) == journal.new
        if is_switched or self._states()[-1][0] == revision:
            return
        try:
            self._helm.rollback(revision, pause)
        except DeploytoolError as failure:
            raise PhaseError(f"{error}; and revision {revision} could not be brought back: {failure}") from failure

    @override
    def restore(self, journal: Journal, pause: Pause | None = None) -> str:
        revision = journal.revision or self.revision()
        self._helm.rollback(revision, pause)
        return f"helm rollback of {self._release} to revision {revision}"

    @override
    def commands(self, journal: Journal) -> Sequence[str]:
        return (
            self._spelled(f"history {self._release}"),
            self._spelled(f"rollback {self._release} {journal.revision or ''}".rstrip()),
        )

    def _spelled(self, words: str) -> str:
        return f"helm {words} --namespace {self._cluster.namespace}"

    @override
    def mend(self, journal: Journal, pause: Pause | None = None) -> str:
        return self._repair(journal.revision, pause)

    def _repair(self, revision: int | None, pause: Pause | None) -> str:
        """Bring a release back over which a Helm was killed; returns what was done, empty for nothing."""
        states = self._states()
        if not states or not states[-1][1].startswith(_PENDING):
            return ""
        known = revision or self._deployed(states)
        self._helm.rollback(known, pause)
        return f"release {self._release} was {states[-1][1]}, and is rolled back to revision {known}"

    @contextmanager
    def _chart_folder(self, record: ReleaseRecord) -> Iterator[str]:
        """Give the chart that was named, or that of a record."""
        if self._chart:
            if not (Path(self._chart) / "Chart.yaml").is_file() and not Path(self._chart).is_file():
                raise RefusedError(f"there is no chart at {self._chart}")
            yield self._chart
            return
        with tempfile.TemporaryDirectory(prefix="deploytool-chart-") as folder:
            yield write_chart(record, Path(folder))


def _values(record: ReleaseRecord, image: str) -> dict[str, Any]:
    """Return the values of an upgrade: what was given for the revision, with another image.

    They go with ``--reset-values``, hence over the defaults of whichever chart is taken. For that of the record it is
    what ``--reuse-values`` does. For another one it is what ``--reset-then-reuse-values`` does, whereas
    ``--reuse-values`` would keep the defaults of the old chart and know none of the new one's. It is the same for each
    Helm, old or new, binary or package, and whatever has been upgraded to since the rollout was planned.
    """
    values = copy.deepcopy(dict(record.values))
    given = values.get("image")
    values["image"] = {**(given if isinstance(given, dict) else {}), **image_values(image)["image"]}
    return values


def image_values(image: str) -> dict[str, Any]:
    """Return the values of our chart for an image such as ``registry:5000/name:tag@sha256:…``."""
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    return {"image": {"repository": repository, "tag": tag, "digest": digest}}


def _set(image: str) -> str:
    return ",".join(f"image.{key}={value}" for key, value in image_values(image)["image"].items())


def _require_as_wanted(asked: Mapping[str, Any], image: str) -> None:
    if image_of(asked) != image:
        raise RefusedError(
            f"the chart makes image {image_of(asked)} of what should be {image}: it has to take image.repository, "
            "image.tag and image.digest"
        )
    strategy, replicas = (asked["spec"].get("strategy") or {}).get("type"), asked["spec"].get("replicas", 1)
    if strategy != "Recreate" or replicas != 1:
        raise RefusedError(
            f"the chart asks for {replicas} replicas and the strategy {strategy}: a second pod would start"
        )
