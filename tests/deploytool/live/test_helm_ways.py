"""Helm and a rollout take turns: whoever upgraded, patched, was killed or went back before, the next one works.

Or it is refused before anything is changed, and what is said to help does.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploytool.cluster.workload import managers_of_image
from tests.deploytool.live.release import CHART
from tests.deploytool.live.rollouts import BROKEN, NAME, Hook, Live, arrive, values
from tests.simcluster.cluster import SimCluster
from tests.simcluster.faults import Fault
from tests.simcluster.helm import HelmError, helm
from tests.simcluster.images import ROOT
from tests.simcluster.kubectl import kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.target import Target

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

_RUN = ("--no-check", "--no-trial", "--settle", "1s", "-o", "json")
_BINARY = shutil.which("helm")
_PACKAGE, _COMMAND, _REAL = "package", "command", "binary"
_KINDS = (
    _PACKAGE,
    _COMMAND,
    pytest.param(_REAL, marks=pytest.mark.skipif(_BINARY is None, reason="there is no helm on this machine")),
)
_DEADLINE_SECONDS = 60.0


def _take(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, before: str = ":") -> None:
    """Have the tool find one kind of Helm and no other.

    Args:
        kind: The package; the command line of helm, done by the package; or the real binary.
        before: What the shell is to do before that command does anything.
    """
    path = [one for one in os.environ["PATH"].split(os.pathsep) if not (Path(one) / "helm").exists()]
    if kind == _COMMAND:
        packages = os.pathsep.join({str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
        script = (
            f"{before}\n"
            f"PYTHONPATH={shlex.quote(packages)} "
            f'exec -a helm {shlex.quote(sys.executable)} -m tests.deploytool.live.helm_command "$@"'
        )
        folder.mkdir(exist_ok=True)
        file = folder / "helm"
        file.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        file.chmod(0o755)
        path.insert(0, str(folder))
    if kind == _REAL:
        assert _BINARY is not None
        path.insert(0, str(Path(_BINARY).parent))
    monkeypatch.setenv("PATH", os.pathsep.join(path))


@pytest.fixture(params=_KINDS)
def by(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which Helm the tool finds."""
    kind = str(request.param)
    _take(kind, tmp_path / "bin", monkeypatch)
    return kind


@pytest.fixture(autouse=True)
def _only_helm_writes(live: Live) -> Iterator[None]:
    """Whatever is done: what Helm owns is written by Helm alone, and its image belongs to nobody else in the end."""
    live.cluster.socket.seen.clear()
    yield
    ours = [one for one in live.cluster.socket.seen if one.agent == "deploytool" and "/deployments/" in one.path]
    assert ours
    assert [] == [one for one in ours if one.method != "GET" and not one.is_dry_run]
    assert {"helm"} == _managers(live)


def _managers(live: Live) -> set[str]:
    shown = live.kubectl("get", "deployment", NAME, "-o", "json", "--show-managed-fields")
    return set(managers_of_image(json.loads(shown)))


def _rolled_out(live: Live, image: str, *more: str) -> None:
    done = live.run("rollout", "run", "--image", image, *_RUN, *more)
    assert 0 == done.returncode, done.stderr + done.stdout
    assert image == live.image()


def _states(live: Live) -> list[str]:
    return [one["status"] for one in helm(live.target, "history", "live")]


def test_there_and_back(live: Live, by: str) -> None:
    """To a new image, and back from one that does not start, by each kind of Helm; then once more."""
    _rolled_out(live, live.target.other_image)
    bad = live.run("rollout", "run", "--image", BROKEN, *_RUN)

    assert 8 == bad.returncode, bad.stderr + bad.stdout
    assert live.target.other_image == live.image()
    assert ["superseded", "superseded", "superseded", "deployed"] == _states(live)
    name = "helm-python-sdk" if by == _PACKAGE else "helm"
    assert f"helm upgrade live from revision 2 by {name}: image -> {BROKEN}" in bad.stdout
    assert {"helm"} == _managers(live)
    _rolled_out(live, live.target.image)


def test_patch_by_somebody_else(live: Live) -> None:
    """Refused by the name of who patched; what is said then makes the next rollout work."""
    live.kubectl("set", "image", f"deployment/{NAME}", f"*={live.target.other_image}")
    live.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=60s")

    refused = live.run("rollout", "run", "--image", "slackwater:3", *_RUN)

    assert 3 == refused.returncode, refused.stderr
    assert 'kubectl-set owns .spec.template.spec.containers[name="slackwater"].image' in refused.stderr
    assert live.target.other_image == live.image()
    with pytest.raises(HelmError, match="conflict"):
        helm(live.target, "upgrade", CHART, "live", {"image": {"tag": "3"}}, reuse_values=True)

    _, _, command = " ".join(refused.stderr.split()).partition("changes no pod: ")
    _, *words = shlex.split(command.partition(". Then take")[0])
    pods = live.kubectl("get", "pods", "-o", "name")
    live.kubectl(*words)
    refused = live.run("rollout", "run", "--image", live.target.image, *_RUN)
    assert 3 == refused.returncode, refused.stderr
    said = " ".join(refused.stderr.split())
    assert f"revision 1 has image {live.target.image}, and {live.target.other_image} runs" in said
    assert "--set image.repository=slackwater,image.tag=2,image.digest=" in said
    wanted = {"image": {"repository": "slackwater", "tag": "2", "digest": ""}}
    helm(live.target, "upgrade", CHART, "live", wanted, reuse_values=True)
    assert pods == live.kubectl("get", "pods", "-o", "name")
    _rolled_out(live, live.target.image)


def _kill_at_the_end(live: Live, action: str, *arguments: object, **options: object) -> None:
    """Kill a Helm that has applied everything, and not yet said so in its record."""
    live.cluster.faults.add(Fault("PUT", r"/secrets/sh\.helm\.release\.v1\.", is_hanging=True, times=None))
    call = (
        "import sys; from pathlib import Path; from tests.simcluster.helm import helm; "
        "from types import SimpleNamespace as T; import json; "
        "one = json.loads(sys.argv[1]); "
        "helm(T(kubeconfig=one['kubeconfig'], namespace=one['namespace'], folder=one['folder']), "
        "one['action'], *one['arguments'], **one['options'])"
    )
    target = live.target
    given = {
        "kubeconfig": str(target.kubeconfig),
        "namespace": target.namespace,
        "folder": str(target.folder),
        "action": action,
        "arguments": arguments,
        "options": options,
    }
    with subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-c", call, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            _until(lambda: any(one.method == "PUT" and "/secrets/sh.helm" in one.path for one in _seen(live)))
        finally:
            os.killpg(process.pid, 9)
            live.cluster.faults.clear()


def _seen(live: Live) -> list[Any]:
    return list(live.cluster.socket.seen)


def _until(is_so: Any) -> None:  # noqa: ANN401 - a function
    until = time.monotonic() + _DEADLINE_SECONDS  # noqa: TID251 - a deadline of a real process
    while not is_so():
        assert time.monotonic() < until  # noqa: TID251 - ditto
        time.sleep(0.05)


def test_pending_release(live: Live) -> None:
    """A Helm was killed over it: said beforehand, and brought back first."""
    _kill_at_the_end(live, "upgrade", CHART, "live", {"resources": {}}, reuse_values=True)
    assert ["deployed", "pending-upgrade"] == _states(live)

    plan = live.run("rollout", "plan", "--image", live.target.other_image, "--no-check", "--no-trial")

    assert 0 == plan.returncode, plan.stdout
    said = " ".join(plan.stdout.split())
    assert "revision 2 is pending-upgrade, and is rolled back first; helm upgrade live from revision 1" in said
    assert ["deployed", "pending-upgrade"] == _states(live)
    _rolled_out(live, live.target.other_image)
    assert "deployed" == _states(live)[-1]
    assert not any(one.startswith("pending") for one in _states(live)[2:])


def test_installation_that_was_cut_off(live: Live) -> None:
    """There is nothing to go back to: that is said, with what helps."""
    helm(live.target, "uninstall", "live", wait="watcher", timeout=60)
    live.cluster.socket.seen.clear()
    _kill_at_the_end(live, "install", CHART, "live", values(live.target))
    assert ["pending-install"] == _states(live)
    live.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=60s")

    plan = live.run("rollout", "plan", "--image", live.target.other_image, "--no-check", "--no-trial")

    assert 3 == plan.returncode
    said = " ".join((plan.stdout + plan.stderr).split())
    assert "is pending-install at revision 1, and none was ever deployed" in said
    assert f"helm rollback live 1 --namespace {live.target.namespace} takes it for deployed" in said
    helm(live.target, "rollback", "live", version=1)
    _rolled_out(arrive(live.cluster, live.target, live.folder, live.database), live.target.other_image)


@pytest.mark.parametrize(("before", "by"), [(_COMMAND, _PACKAGE), (_PACKAGE, _COMMAND)])
def test_upgrade_by_somebody_else(
    live: Live, before: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever Helm: values that were given stay, and the other one goes on from there."""
    _upgrade(before, live, tmp_path, monkeypatch)
    assert {"helm"} == _managers(live)
    _take(by, tmp_path / "bin", monkeypatch)

    _rolled_out(live, live.target.other_image)

    assert "7" == _setting(live, "WS_MAX_CONNECTIONS")
    assert {"helm"} == _managers(live)
    _upgrade(before, live, tmp_path, monkeypatch)
    assert live.target.other_image == live.image()


def _upgrade(kind: str, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"settings": {"maxConnections": 7}}
    if kind == _PACKAGE:
        helm(live.target, "upgrade", CHART, "live", given, reuse_values=True, wait="watcher", timeout=60)
        return
    _take(kind, tmp_path / "theirs", monkeypatch)
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(given))
    binary = shutil.which("helm")
    assert binary is not None
    words = ("upgrade", "live", CHART, "--reuse-values", "--values", str(file), "--namespace", live.target.namespace)
    environ = {**os.environ, "KUBECONFIG": str(live.target.kubeconfig), "HOME": str(live.target.folder)}
    subprocess.run([binary, *words, "--wait"], env=environ, check=True, timeout=_DEADLINE_SECONDS)  # noqa: S603 - Helm


def _setting(live: Live, name: str) -> str:
    path = f"jsonpath={{.spec.template.spec.containers[0].env[?(@.name=='{name}')].value}}"
    return live.kubectl("get", "deployment", NAME, "-o", path)


def test_rollback_by_a_person(live: Live) -> None:
    """It is a revision like others."""
    _rolled_out(live, live.target.other_image)
    helm(live.target, "rollback", "live", version=1, wait="watcher", timeout=60)
    assert live.target.image == live.image()

    _rolled_out(live, live.target.other_image)
    assert ["superseded", "superseded", "superseded", "deployed"] == _states(live)


def test_another_chart(live: Live, tmp_path: Path) -> None:
    """Its new defaults come in, what was given stays, and the way back is the old chart as a whole."""
    helm(
        live.target,
        "upgrade",
        CHART,
        "live",
        {"settings": {"maxConnections": 7}},
        reuse_values=True,
        wait="watcher",
        timeout=60,
    )
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    defaults = chart / "values.yaml"
    defaults.write_text(f"{defaults.read_text()}\ngreeting: hello\n")
    schema = json.loads((chart / "values.schema.json").read_text())
    schema["properties"]["greeting"] = {"type": "string"}
    (chart / "values.schema.json").write_text(json.dumps(schema))
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: greeting}\ndata: {text: {{ .Values.greeting | quote }}}\n"
    (chart / "templates" / "greeting.yaml").write_text(text)
    arguments = ("--chart", str(chart))

    plan = live.run("rollout", "plan", "--image", live.target.other_image, "--no-check", "--no-trial", *arguments)
    bad = live.run("rollout", "run", "--image", BROKEN, *_RUN, *arguments)
    after = live.kubectl("get", "configmaps", "-o", "name")
    _rolled_out(live, live.target.other_image, *arguments)

    assert "ConfigMap greeting: is added" in plan.stdout
    assert 8 == bad.returncode, bad.stderr + bad.stdout
    assert "configmap/greeting" not in after
    assert "hello" == live.kubectl("get", "configmap", "greeting", "-o", "jsonpath={.data.text}")
    assert "7" == _setting(live, "WS_MAX_CONNECTIONS")
    assert 3 == live.run("rollout", "plan", "--image", live.target.image, "--chart", str(tmp_path)).returncode


def test_lock_outlives_a_slow_helm(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would take over finds it renewed, for as long as that Helm takes."""
    there, go = tmp_path / "there", tmp_path / "go"
    before = f'case "$*" in *--dry-run*) ;; *) touch {there}; while [ ! -e {go} ]; do sleep 0.05; done;; esac'
    _take(_COMMAND, tmp_path / "bin", monkeypatch, before=before)
    run = ("rollout", "run", "--image", live.target.other_image, *_RUN, "--lease", "9s")
    with live.begin(*run) as process:
        Hook((), there, go).wait(process)
        other = live.run("rollout", "resume", "--lease", "9s")
        go.touch()
        said = process.communicate(timeout=_DEADLINE_SECONDS)

    assert 6 == other.returncode, other.stderr
    assert "the lock is held by " in other.stderr
    assert 0 == process.returncode, said
    assert live.target.other_image == live.image()


def test_context_stays_the_one_that_it_began_with(live: Live, by: str, tmp_path: Path) -> None:
    """Another one is made the current one while it runs, of a cluster with a release of the same name."""
    del by
    with SimCluster.start(rate=10.0) as elsewhere:
        kubectl(replace(live.target, kubeconfig=elsewhere.kubeconfig()), "create", "namespace", live.target.namespace)
        theirs = replace(live.target, kubeconfig=elsewhere.kubeconfig(namespace=live.target.namespace))
        helm(theirs, "install", CHART, "live", values(live.target) | {"replicaCount": 0})
        before = _states(replace(live, target=theirs))
        config = _merged(tmp_path / "config", ours=live.target, theirs=theirs)
        command = f"sed -i 's/^current-context: ours$/current-context: theirs/' {config}"
        done = live.run(
            *("rollout", "run", "--image", live.target.other_image, *_RUN, "--hook", f"before-SWITCH={command}"),
            kubeconfig=str(config),
        )
        assert "theirs" == yaml.safe_load(config.read_text())["current-context"]
        assert 0 == done.returncode, done.stderr + done.stdout
        assert live.target.other_image == live.image()
        assert before == _states(replace(live, target=theirs))
        named = live.run(
            "rollout", "run", "--image", live.target.image, *_RUN, "--context", "ours", kubeconfig=str(config)
        )
        assert 0 == named.returncode, named.stderr + named.stdout
        assert live.target.image == live.image()
        assert before == _states(replace(live, target=theirs))


def _merged(path: Path, **targets: Target) -> Path:
    """Write a kubeconfig with a context for each target; the first one is the current one."""
    found: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for name, target in targets.items():
        known = yaml.safe_load(target.kubeconfig.read_text())
        found["clusters"].append({**known["clusters"][0], "name": name})
        found["users"].append({**known["users"][0], "name": name})
        context = {"cluster": name, "user": name, "namespace": target.namespace}
        found["contexts"].append({"name": name, "context": context})
    found["current-context"] = next(iter(targets))
    path.write_text(yaml.safe_dump(found))
    path.chmod(0o600)
    return path
