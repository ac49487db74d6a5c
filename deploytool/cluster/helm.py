"""Helm, for a release that it owns: an upgrade to another image, and back.

The ``helm`` on the path does it, or else the package helm-python-sdk in a child process whose ``argv[0]`` is ``helm``:
Helm takes its field manager from there, and both have to be the same one, or each would conflict with the other.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from deploytool.cluster.resources import SECRETS
from deploytool.cluster.retrying import transient
from deploytool.cluster.workload import Switch
from deploytool.rollout.errors import PhaseError, RefusedError, TransientError
from deploytool.rollout.ports import Proposal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deploytool.cluster.client import Cluster
    from deploytool.rollout.journal import Journal

__all__ = ("HelmSwitch", "image_values", "write_chart")

_SDK: Final = "helm_python"
# Less than the lock may go without being renewed.
_SECONDS: Final = 35.0
_MOST_BYTES: Final = 64 << 20
_MOST_SAID: Final = 1000
_DEPLOYED: Final = "deployed"
_CHILD: Final = """
import json, sys
from helm_python import Config, HelmError
call = json.load(sys.stdin)
try:
    with Config(kubeconfig_path=call["kubeconfig"], namespace=call["namespace"]) as config:
        getattr(config, call["action"])(*call["arguments"], **call["options"])
except HelmError as error:
    print(error, file=sys.stderr)
    raise SystemExit(1)
"""


class HelmSwitch(Switch):
    """One release.

    Args:
        cluster: Where its records are.
        release: Its name.
        kubeconfig: Path; empty for what the environment says.
        context: Of the kubeconfig; empty for the current one.
        chart: Path of another chart than that of the record; empty for that.
    """

    def __init__(
        self, cluster: Cluster, release: str, *, kubeconfig: str = "", context: str = "", chart: str = ""
    ) -> None:
        self._cluster = cluster
        self._release = release
        self._kubeconfig = kubeconfig
        self._context = context
        self._chart = chart

    @property
    @override
    def manager(self) -> str:
        return "helm"

    def revision(self) -> int:
        """Return the newest revision that was deployed.

        Raises:
            RefusedError: There is none.
        """
        found = [number for number, status in self._records() if status in (_DEPLOYED, "superseded")]
        if not found:
            raise RefusedError(f"Helm has no record of release {self._release} in this namespace")
        deployed = [number for number, status in self._records() if status == _DEPLOYED]
        return max(deployed or found)

    def _records(self) -> list[tuple[int, str]]:
        with transient():
            found = self._cluster.all(SECRETS, labels=f"owner=helm,name={self._release}").items
        labels = [one["metadata"].get("labels") or {} for one in found]
        return sorted((int(one.get("version") or 0), str(one.get("status"))) for one in labels)

    @override
    def preflight(self, image: str) -> Proposal:
        revision = self.revision()
        if self._binary() is None and find_spec(_SDK) is None:
            raise RefusedError(
                f"Helm owns release {self._release}, and there is no helm on the path: install it, or "
                "pip install helm-python-sdk"
            )
        number, status = self._records()[-1]
        pending = f"revision {number} is {status}, and is rolled back first; " if status.startswith("pending") else ""
        with self._chart_folder(revision) as chart:
            self._require_chart(chart)
        by = "helm" if self._binary() is not None else "helm-python-sdk"
        return Proposal((f"{pending}helm upgrade {self._release} from revision {revision} by {by}: image -> {image}",))

    def _require_chart(self, chart: str) -> None:
        if not (Path(chart) / "Chart.yaml").is_file() and not Path(chart).is_file():
            raise RefusedError(f"there is no chart at {chart}")

    @override
    def switch(self, journal: Journal) -> str:
        revision = journal.revision or self.revision()
        self._repair(revision)
        values = image_values(journal.new)
        with self._chart_folder(revision) as chart:
            self._upgrade(chart, values)
        return f"helm upgrade of {self._release} from revision {revision}"

    @override
    def restore(self, journal: Journal) -> str:
        revision = journal.revision or 0
        self._rollback(revision)
        return f"helm rollback of {self._release} to revision {revision}"

    @override
    def commands(self, journal: Journal) -> Sequence[str]:
        where = f"--namespace {self._cluster.namespace}"
        return (
            f"helm {where} history {self._release}",
            f"helm {where} rollback {self._release} {journal.revision or ''}".rstrip(),
        )

    @override
    def mend(self, journal: Journal) -> str:
        return self._repair(journal.revision or self.revision())

    def _repair(self, revision: int) -> str:
        """Bring a release back over which a Helm was killed; returns what was done, empty for nothing."""
        records = self._records()
        if not records or not records[-1][1].startswith("pending"):
            return ""
        self._rollback(revision)
        return f"release {self._release} was {records[-1][1]}, and is rolled back to revision {revision}"

    def _upgrade(self, chart: str, values: Mapping[str, Any]) -> None:
        binary = self._binary()
        if binary is None:
            self._child("upgrade", chart, self._release, values, reuse_values=True)
            return
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(values, file)
            file.flush()
            self._run([binary, "upgrade", self._release, chart, "--reuse-values", "--values", file.name, *self._where])

    def _rollback(self, revision: int) -> None:
        binary = self._binary()
        if binary is None:
            self._child("rollback", self._release, version=revision)
            return
        self._run([binary, "rollback", self._release, str(revision), *self._where])

    @property
    def _where(self) -> tuple[str, ...]:
        named = {"--namespace": self._cluster.namespace, "--kubeconfig": self._kubeconfig}
        named["--kube-context"] = self._context
        return tuple(part for name, value in named.items() if value for part in (name, value))

    def _binary(self) -> str | None:
        return shutil.which("helm")

    def _child(self, action: str, *arguments: object, **options: object) -> None:
        call = {
            "kubeconfig": self._kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser()),
            "namespace": self._cluster.namespace,
            "action": action,
            "arguments": arguments,
            "options": options,
        }
        # An interpreter under another name does not find its environment by itself.
        packages = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
        environ = {**os.environ, "PYTHONPATH": packages}
        self._run(["helm", "-c", _CHILD], executable=sys.executable, environ=environ, text=json.dumps(call))

    def _run(
        self,
        command: Sequence[str],
        *,
        executable: str | None = None,
        environ: Mapping[str, str] | None = None,
        text: str = "",
    ) -> None:
        try:
            done = subprocess.run(  # noqa: S603 - Helm, or our own interpreter
                command,
                executable=executable,
                env=environ,
                input=text,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                encoding="utf-8",
                errors="replace",
                # Ctrl-C is ours to handle: a Helm that is interrupted leaves its release pending.
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise TransientError(f"helm took more than {_SECONDS:g} s") from error
        except OSError as error:
            raise PhaseError(f"helm cannot be run: {error}") from error
        if done.returncode:
            raise PhaseError(f"helm refused: {_said(done.stderr)}")

    @contextmanager
    def _chart_folder(self, revision: int) -> Iterator[str]:
        """Give the chart that was named, or that of a revision."""
        if self._chart:
            yield self._chart
            return
        with transient():
            secret = self._cluster.get(SECRETS, f"sh.helm.release.v1.{self._release}.v{revision}")
        with tempfile.TemporaryDirectory(prefix="deploytool-chart-") as folder:
            yield write_chart(secret, Path(folder))


def write_chart(secret: Mapping[str, Any], folder: Path) -> str:
    """Write the chart that a record of Helm holds into a folder, and return its path.

    Raises:
        RefusedError: It is no record, or holds no whole chart.
    """
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            chart = json.loads(file.read(_MOST_BYTES))["chart"]
        if chart["metadata"].get("dependencies"):
            raise RefusedError("the chart in Helm's record has dependencies, which the record leaves out: give --chart")
        texts = {one["name"]: base64.b64decode(one["data"]) for one in (*chart["templates"], *(chart["files"] or ()))}
        texts["Chart.yaml"] = json.dumps(chart["metadata"]).encode()
        texts["values.yaml"] = json.dumps(chart["values"]).encode()
        if chart.get("schema"):
            texts["values.schema.json"] = base64.b64decode(chart["schema"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise RefusedError(f"Helm's record of the release cannot be read ({error}): give --chart") from error
    root = folder.resolve()
    for name, data in texts.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise RefusedError(f"the chart in Helm's record has a file outside of itself: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(root)


def image_values(image: str) -> dict[str, Any]:
    """Return the values of our chart for an image such as ``registry:5000/name:tag@sha256:…``."""
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, ""
    return {"image": {"repository": repository, "tag": tag, "digest": digest}}


def _said(text: str) -> str:
    return " ".join(text.split())[:_MOST_SAID]
