"""A pod that lives for a moment, with the image that is to come: is it there, does it start, is there a way back?

It runs ``trial`` of the service with the settings of the pod that would be asked for, beside the one that serves and
on its node if that has room, so that the image is there when it is needed. Nothing reaches it, and it has no volume of
anybody else's.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from typing_extensions import override

from deploytool.cluster import pods as pod_states
from deploytool.cluster.client import FIELD_MANAGER
from deploytool.cluster.errors import ClusterError, ConflictError, MissingError, RefusedError
from deploytool.cluster.resources import DEPLOYMENTS, PODS
from deploytool.cluster.retrying import transient
from deploytool.cluster.workload import image_of
from deploytool.rollout import errors
from deploytool.rollout.ports import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deploytool.cluster.client import Cluster
    from deploytool.cluster.rights import Right
    from deploytool.rollout.journal import Journal
    from deploytool.rollout.ports import Clock

__all__ = ("Answer", "PodTrial", "judged", "rights", "trial_name", "trial_pod")

_ROLLOUT: Final = "slackwater.dev/rollout"
_SECONDS: Final = 300
_POLL_SECONDS: Final = 0.5
_SHOWN_LINES: Final = 12
_MOST_CHARACTERS: Final = 300
_SUCCEEDED: Final = "Succeeded"
_OVER: Final = frozenset({_SUCCEEDED, "Failed"})
_WITHOUT: Final = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports", "command")
_LITTLE: Final = {"cpu": "10m", "memory": "64Mi"}
_WAY_OUT: Final = "Mend the image, or leave the trial out with --no-trial"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said in its trial.

    Attributes:
        code_level: Of the schema that the new version works with.
        oldest_level: Of the oldest code that may run on that schema.
        migrates: Whether a start brings the database to that level by itself.
        level: Of the schema that the database has; None where that was not seen.
        kind: Of the database; empty for none.
    """

    version: str
    code_level: int
    oldest_level: int
    migrates: bool
    level: int | None
    kind: str


class PodTrial(Trial):
    """In the namespace of the workload.

    Args:
        cluster: Where.
        name: Of the Deployment.
        clock: Ends a trial that does not end by itself.
        code_level: Returns the level of the schema that the running version was written for; None where that is not
            known.
    """

    def __init__(self, cluster: Cluster, name: str, clock: Clock, code_level: Callable[[], int | None]) -> None:
        self._cluster = cluster
        self._name = name
        self._clock = clock
        self._code_level = code_level

    @override
    def run(self, journal: Journal, pod: Mapping[str, Any], pause: Callable[[float], None]) -> Sequence[str]:
        with transient():
            deployment = self._cluster.get(DEPLOYMENTS, self._name)
            running = self._running(deployment)
        body = trial_pod(deployment, pod, journal.rollout, node=str((running.get("spec") or {}).get("nodeName") or ""))
        name = body["metadata"]["name"]
        try:
            with transient():
                self._create(body)
            found = self._until_over(name, pause)
            lines = self._log(name)
        finally:
            self._remove(name)
        old_level = self._code_level()
        seen = judged(found, lines, old_level=old_level, is_migrated=_has_migration(pod))
        return [*seen, *_moving(journal.new, _image_id(found), _image_id(running, image_of(deployment)))]

    def _create(self, body: Mapping[str, Any]) -> None:
        meta = body["metadata"]
        try:
            self._cluster.create(PODS, body)
        except ConflictError:
            found = self._cluster.get(PODS, meta["name"])["metadata"]
            if (found.get("labels") or {}).get(_ROLLOUT) == meta["labels"][_ROLLOUT] and not _is_going(found):
                # Ours, of an attempt whose answer was lost.
                return
            self.sweep()
            raise
        except RefusedError as error:
            raise errors.RefusedError(
                f"a pod that tries the image may not be made: {error}. Leave the trial out with --no-trial"
            ) from error

    def _running(self, deployment: Mapping[str, Any]) -> Mapping[str, Any]:
        selector = deployment["spec"]["selector"].get("matchLabels") or {}
        found = self._cluster.all(PODS, labels=",".join(f"{key}={value}" for key, value in sorted(selector.items())))
        return next((one for one in found.items if pod_states.is_ready(one)), {})

    def _until_over(self, name: str, pause: Callable[[float], None]) -> Mapping[str, Any]:
        began = self._clock.now()
        while True:
            found = self._seen(name)
            took = self._clock.now() - began
            if (found.get("status") or {}).get("phase") in _OVER:
                return found
            if text := pod_states.failure_of(found, took):
                raise errors.RefusedError(f"the trial of the new image failed: {text}. {_WAY_OUT}")
            if took > _SECONDS:
                raise errors.RefusedError(f"the trial of the new image did not end within {_SECONDS} s. {_WAY_OUT}")
            pause(_POLL_SECONDS)

    def _seen(self, name: str) -> Mapping[str, Any]:
        try:
            with transient():
                return self._cluster.get(PODS, name)
        except MissingError as error:
            raise errors.RefusedError(f"somebody removed pod {name}, which tried the new image") from error

    def _log(self, name: str) -> Sequence[str]:
        try:
            text = self._cluster.text(
                f"{PODS.path(self._cluster.namespace, name, 'log')}?{urlencode({'tailLines': 200})}"
            )
        except ClusterError as error:
            return [f"its log cannot be read: {error}"]
        return text.splitlines()

    def _remove(self, name: str) -> None:
        with suppress(ClusterError):
            self._cluster.delete(PODS, name)

    @override
    def sweep(self) -> None:
        with suppress(ClusterError):
            found = self._cluster.get(PODS, trial_name(self._name))
            # One that still runs is somebody else's, or ends by itself.
            if (found.get("status") or {}).get("phase") in _OVER:
                self._cluster.delete(PODS, found["metadata"]["name"], uid=str(found["metadata"].get("uid") or ""))


def trial_name(workload: str) -> str:
    """Return the name of the pod: always the same, so that a Role can name it."""
    return f"{workload}-trial"


def rights(workload: str) -> Iterator[Right]:
    """Yield what a trial takes."""
    yield "create", PODS, "", ""
    yield from ((verb, PODS, trial_name(workload), "") for verb in ("get", "delete"))
    yield "get", PODS, trial_name(workload), "log"


def trial_pod(deployment: Mapping[str, Any], template: Mapping[str, Any], rollout: str, *, node: str) -> dict[str, Any]:
    """Return the pod that tries a template: its main container alone, and nothing by which anybody would find it.

    Args:
        deployment: Whose pod it would be.
        template: ``metadata`` and ``spec`` of the pod that would be asked for.
        rollout: Id of the rollout.
        node: Where it should run if there is room; empty for anywhere.
    """
    name = deployment["metadata"]["name"]
    spec = dict(template["spec"])
    meta = template.get("metadata") or {}
    main = _main(meta, spec)
    container = {key: value for key, value in main.items() if key not in _WITHOUT} | {"args": ["trial"]}
    if (main.get("command") or [""])[-1:] == ["service"]:
        container["command"] = main["command"]
    resources = dict(main.get("resources") or {})
    if resources.get("requests"):
        resources["requests"] = {key: value for key, value in _LITTLE.items() if key in resources["requests"]}
        container["resources"] = resources
    spec |= {
        "containers": [container],
        "initContainers": [],
        "volumes": [_own(one) for one in spec.get("volumes") or ()],
        "restartPolicy": "Never",
        "activeDeadlineSeconds": _SECONDS,
        "terminationGracePeriodSeconds": 5,
        "affinity": _near(spec.get("affinity") or {}, node),
    }
    # Whoever selects the workload's pods must not find this one: no Service, no Deployment, no disruption budget.
    selected = (deployment["spec"]["selector"].get("matchLabels") or {}).keys()
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key not in selected}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": deployment["metadata"].get("uid", "")}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": trial_name(name),
            "labels": labels | {_ROLLOUT: rollout, "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "annotations": meta.get("annotations") or {},
            "ownerReferences": [owner] if owner["uid"] else [],
        },
        "spec": spec,
    }


def _is_going(meta: Mapping[str, Any]) -> bool:
    return bool(meta.get("deletionTimestamp"))


def _main(meta: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    named = (meta.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    found: Sequence[Mapping[str, Any]] = spec["containers"]
    return next((one for one in found if one["name"] == named), found[0])


def _own(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an empty volume in place of one that holds what others write."""
    if "persistentVolumeClaim" in volume or "ephemeral" in volume or "hostPath" in volume:
        return {"name": volume["name"], "emptyDir": {}}
    return volume


def _near(affinity: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    if not node:
        return affinity
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    nodes = dict(affinity.get("nodeAffinity") or {})
    wishes = "preferredDuringSchedulingIgnoredDuringExecution"
    nodes[wishes] = [*(nodes.get(wishes) or ()), {"weight": 100, "preference": term}]
    return {**affinity, "nodeAffinity": nodes}


def _has_migration(template: Mapping[str, Any]) -> bool:
    """Whether something migrates before the service starts."""
    found = template["spec"].get("initContainers") or ()
    return any("migrate" in (*(one.get("command") or ()), *(one.get("args") or ())) for one in found)


def judged(pod: Mapping[str, Any], lines: Sequence[str], *, old_level: int | None, is_migrated: bool) -> Sequence[str]:
    """Return what a trial that is over has shown.

    Args:
        pod: As it is at its end.
        lines: Of its log.
        old_level: Level of the schema that the running version was written for; None where that is not known.
        is_migrated: Whether something migrates before the new version starts.

    Raises:
        RefusedError: The new image must not be switched to.
    """
    answer = _answer(lines)
    if (pod.get("status") or {}).get("phase") != _SUCCEEDED or answer is None:
        said = " | ".join(_line(one) for one in lines if one.strip())[-_MOST_CHARACTERS * 3 :] or _ended(pod)
        unknown = ". It knows no `trial`: it is another image, or an older version" if "No such command" in said else ""
        raise errors.RefusedError(f"the trial of the new image failed: {said}{unknown}. {_WAY_OUT}")
    _require_way_back(answer, old_level)
    seen = [f"the new image starts: version {answer.version}"]
    if not answer.kind:
        return seen
    if answer.level is None:
        seen.append(f"it works with schema level {answer.code_level}; its {answer.kind} file was not looked at")
    elif answer.level < answer.code_level:
        if not (is_migrated or answer.migrates):
            raise errors.RefusedError(
                f"the database has schema level {answer.level}, the new version needs {answer.code_level}, and nothing "
                "migrates: run its `migrate` first, or set database.migrate of the chart"
            )
        seen.append(f"it migrates the database from schema level {answer.level} to {answer.code_level}")
    else:
        seen.append(f"the database has schema level {answer.level}: nothing to migrate")
    if old_level is None:
        seen.append(
            "warning: the running version does not say its schema level: whether it can be gone back to is open"
        )
    return seen


def _require_way_back(answer: Answer, old_level: int | None) -> None:
    if answer.kind and old_level is not None and answer.oldest_level > old_level:
        raise errors.RefusedError(
            f"the new version migrates to a schema on which only code of level {answer.oldest_level} or newer may run, "
            f"and the running version is of level {old_level}: there would be no way back. Roll out a version between "
            "the two first, or leave the trial out with --no-trial if going back is not wanted"
        )


def _answer(lines: Sequence[str]) -> Answer | None:
    """Return what the service printed last; None when it printed nothing of the kind."""
    for line in reversed(lines):
        try:
            found = json.loads(line)
            if not isinstance(found, dict) or found.get("trial") != 1:
                continue
            database = found["database"]
            level = None if database is None else database["level"]
            return Answer(
                version=_line(str(found["version"])),
                code_level=int(found["code_level"]),
                oldest_level=int(found["oldest_level"]),
                migrates=found["migrates"] is True,
                level=None if level is None else int(level),
                kind="" if database is None else _line(str(database["kind"])),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return None


def _moving(image: str, new_id: str, old_id: str) -> Sequence[str]:
    """Say what is doubtful about a tag, which can be made to mean another image at any time."""
    seen = []
    if new_id and new_id == old_id:
        seen.append(f"warning: {image} is what runs already, under another name")
    if "@" not in image:
        digest = f"; it is {new_id} now" if new_id else ""
        seen.append(f"warning: {image} is named by a tag, which can move: name it by its digest{digest}")
    return seen


def _image_id(pod: Mapping[str, Any], image: str = "") -> str:
    """Return the digest of the image that a pod runs; empty when that is not known."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        if not image or one.get("image") == image or len(pod["status"]["containerStatuses"]) == 1:
            return str(one.get("imageID") or "").rpartition("@")[2]
    return ""


def _ended(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended:
            return f"it ended with {ended.get('exitCode')}: {_line(str(ended.get('reason') or ''))}"
    return _line(str(status.get("message") or status.get("reason") or "it said nothing"))


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:_MOST_CHARACTERS]
