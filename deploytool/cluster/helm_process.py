"""Runs Helm: the ``helm`` on the path, or else the package helm-python-sdk in a child process.

Helm takes its field manager from the name of its process. The child is called ``helm`` too, so that both have the same
one: else each would conflict with what the other applied.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from deploytool.child import ChildTimeoutError, run_child
from deploytool.rollout.errors import PhaseError, RefusedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deploytool.cluster.client import Cluster

    Pause = Callable[[float], None]

__all__ = ("HelmProcess",)

_SDK: Final = "helm_python"
_SECONDS: Final = 120.0
_MOST_SAID: Final = 1000
_STEERING: Final = ("HELM_KUBE", "HELM_NAMESPACE", "HELM_DRIVER", "KUBECONFIG")
"""What begins like this in the environment would lead Helm to another cluster, or to other records, than ours."""
_CHILD: Final = """
import json, sys
from helm_python import Config, HelmError
call = json.load(sys.stdin)
try:
    with Config(**call["config"]) as config:
        print(json.dumps(getattr(config, call["action"])(*call["arguments"], **call["options"])))
except HelmError as error:
    print(error, file=sys.stderr)
    raise SystemExit(1)
"""


class HelmProcess:
    """Helm, for one release.

    Args:
        cluster: Where; Helm gets the same kubeconfig, and the same context even when that is no longer the current one.
        release: Its name.
    """

    def __init__(self, cluster: Cluster, release: str) -> None:
        self._cluster = cluster
        self._release = release

    @property
    def binary(self) -> str:
        """Path of the ``helm`` that is there; empty when the package has to do."""
        return shutil.which("helm") or ""

    @property
    def name(self) -> str:
        """Which of the two it is.

        Raises:
            RefusedError: Neither is there.
        """
        if self.binary:
            return "helm"
        if find_spec(_SDK) is None:
            raise RefusedError(
                f"Helm owns release {self._release}, and there is no helm on the path: install it, or "
                "pip install 'slackwater[helm]'"
            )
        return "helm-python-sdk"

    def render(self, chart: str, values: Mapping[str, Any]) -> str:
        """Return the manifest that an upgrade would apply; the cluster is read, and not changed."""
        if self.binary:
            more = ("--dry-run=server", "--output", "json")
            said = self._run_binary(["upgrade", self._release, chart, *_GIVEN, *more], values=values)
        else:
            said = self._run_package("upgrade", chart, self._release, values, reset_values=True, dry_run="server")
        try:
            return str(json.loads(said)["manifest"])
        except (KeyError, TypeError, ValueError) as error:
            raise PhaseError(f"helm did not say what it would apply: {_line(said)}") from error

    def upgrade(self, chart: str, values: Mapping[str, Any], pause: Pause | None) -> None:
        """Upgrade the release to a chart with these values, and no others than the chart's own beside them.

        Args:
            pause: Waits; None waits without doing anything else.

        Raises:
            PhaseError: Helm refused.
            TransientError: It took too long, and may be half done.
        """
        if self.binary:
            self._run_binary(["upgrade", self._release, chart, *_GIVEN], values=values, pause=pause)
        else:
            self._run_package("upgrade", chart, self._release, values, reset_values=True, pause=pause)

    def rollback(self, revision: int, pause: Pause | None) -> None:
        """Make a new revision that is like an old one; raises as `upgrade`."""
        if self.binary:
            self._run_binary(["rollback", self._release, str(revision)], pause=pause)
        else:
            self._run_package("rollback", self._release, version=revision, pause=pause)

    def _run_binary(
        self, words: Sequence[str], *, values: Mapping[str, Any] | None = None, pause: Pause | None = None
    ) -> str:
        where = ["--namespace", self._cluster.namespace]
        if self._cluster.context:
            where += ["--kube-context", self._cluster.context]
        # Values may be secret: they go by a pipe, and never by a file that has a name.
        return self._run([self.binary, *words, *where], text="" if values is None else json.dumps(values), pause=pause)

    def _run_package(self, action: str, *arguments: object, pause: Pause | None = None, **options: object) -> str:
        config = {"namespace": self._cluster.namespace, "kube_context": self._cluster.context or None}
        call = {"config": config, "action": action, "arguments": arguments, "options": options}
        return self._run(["helm", "-c", _CHILD], executable=sys.executable, text=json.dumps(call), pause=pause)

    def _environ(self) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
        if self._cluster.kubeconfig:
            found["KUBECONFIG"] = self._cluster.kubeconfig
        return found

    def _run(
        self, command: Sequence[str], *, executable: str | None = None, text: str = "", pause: Pause | None = None
    ) -> str:
        environ = self._environ()
        if executable is not None:
            # An interpreter under another name does not find its environment by itself.
            environ["PYTHONPATH"] = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
        pause = pause or self._cluster.pause
        # Raises where the lock may be somebody else's by now: we may have slept since it was looked at.
        pause(0.0)
        try:
            ended = run_child(
                command,
                text=text,
                environ=environ,
                seconds=_SECONDS,
                pause=pause,
                clock=self._cluster.clock,
                executable=executable,
            )
        except ChildTimeoutError as error:
            raise TransientError(f"helm took more than {_SECONDS:g} s") from error
        except OSError as error:
            raise PhaseError(f"helm cannot be run: {error}") from error
        if ended.code:
            raise PhaseError(f"helm refused: {_line(ended.complained)}")
        return ended.said


_GIVEN: Final = ("--reset-values", "--values", "-")


def _line(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
    return shown[:_MOST_SAID]
