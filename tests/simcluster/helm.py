"""A real Helm, in a child process whose ``argv[0]`` is ``helm``: the SDK takes its field manager from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simcluster.target import Target

__all__ = ("HelmError", "helm")

_SECONDS = 120.0
_CHILD = """
import json, sys
from helm_python import Config
from helm_python.errors import HelmError
call = json.loads(sys.stdin.read())
try:
    with Config(kubeconfig_path=call["kubeconfig"], namespace=call["namespace"]) as config:
        print(json.dumps(getattr(config, call["action"])(*call["arguments"], **call["options"])))
except HelmError as error:
    print(error, file=sys.stderr)
    raise SystemExit(1)
"""


class HelmError(Exception):
    """Helm refused or failed; the text is its own."""


def helm(target: Target, action: str, *arguments: object, **options: object) -> Any:  # noqa: ANN401 - JSON
    """Carry an action of the SDK out, such as ``install`` with a chart's path and a release's name.

    Raises:
        HelmError: It failed.
    """
    call = {
        "kubeconfig": str(target.kubeconfig),
        "namespace": target.namespace,
        "action": action,
        "arguments": arguments,
        "options": options,
    }
    # An interpreter under another name does not find its environment by itself.
    packages = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    done = subprocess.run(  # noqa: S603 - of the tests' own making
        ["helm", "-c", _CHILD],  # noqa: S607 - a name, not a path
        executable=sys.executable,
        env={**os.environ, "HOME": str(target.folder), "PYTHONPATH": packages},
        input=json.dumps(call),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise HelmError(done.stderr.strip())
    return json.loads(done.stdout)
