"""A release as for production, with what stands around it: TLS, documents, people with rights of their own."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from deploytool.cli import main
from tests.simcluster.helm import helm
from tests.simcluster.identity import User
from tests.simcluster.images import ROOT
from tests.simcluster.kubectl import kubectl
from tests.support.edge import certificate, serve_pages, tls_front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simcluster.cluster import SimCluster
    from tests.simcluster.target import Target

__all__ = ("ADA", "CHART", "EVE", "HOST", "NAME", "Release", "deploytool", "installed")

CHART = str(ROOT / "helm" / "slackwater")
HOST = "realtime.example.org"
NAME = "live-slackwater"
ADA = User("ada@example.org")
"""May check and attest."""

EVE = User("eve@example.org")
"""May attest."""

_SECONDS = 200.0
_CERTIFICATE = certificate(HOST)


@dataclass(frozen=True, slots=True)
class Release:
    """The release and its surroundings.

    Attributes:
        admin: The target, as an administrator.
        pages: Documents, by path; may be changed.
        site: Address of the documents.
        folder: Where Ada works: it holds ``deploytool.yaml``.
    """

    cluster: SimCluster
    admin: Target
    pages: dict[str, bytes]
    site: str
    folder: Path

    def kubeconfig(self, user: User) -> str:
        """Return the configuration of a user."""
        return str(self.cluster.kubeconfig(user, namespace=self.admin.namespace))

    def deploytool(self, *arguments: str, user: User = ADA) -> subprocess.CompletedProcess[str]:
        """Run the tool as a user."""
        return deploytool(*arguments, kubeconfig=self.kubeconfig(user), folder=self.folder)

    def deploytool_process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the tool as Ada, as a process of its own."""
        return deploytool_process(*arguments, kubeconfig=self.kubeconfig(ADA), folder=self.folder)

    def calls(self) -> list[str]:
        """Return what was asked of the API server by people since the last time, and forget it."""
        people = (ADA.name, EVE.name)
        seen = [f"{one.method} {one.path}" for one in self.cluster.socket.seen if one.user in people]
        self.cluster.socket.seen.clear()
        return seen


def deploytool(*arguments: str, kubeconfig: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool to its end, in a folder; within this process, which spares it a second of imports."""
    out, err = io.StringIO(), io.StringIO()
    environ = {**os.environ, "KUBECONFIG": kubeconfig, "COLUMNS": "100", "NO_COLOR": "1", "HOME": str(folder)}
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, environ),
        mock.patch.object(sys, "argv", ["deploytool", *arguments]),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def deploytool_process(*arguments: str, kubeconfig: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool as a process of its own, as people do."""
    environ = {**os.environ, "KUBECONFIG": kubeconfig, "COLUMNS": "100", "NO_COLOR": "1", "HOME": str(folder)}
    environ["PYTHONPATH"] = str(ROOT)
    return subprocess.run(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "deploytool", *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _values(target: Target, site: str) -> dict[str, Any]:
    repository, _, tag = target.image.rpartition(":")
    subject = [{"kind": "User", "name": ADA.name}]
    return {
        "image": {"repository": repository, "tag": tag},
        "secret": {"generate": True},
        "settings": {"frontendUrl": "https://app.example.org"},
        "persistence": {"enabled": True},
        "ingress": {"enabled": True, "host": HOST},
        "monitoring": {"runbookBaseUrl": f"{site}/runbooks", "runbookSuffix": ".md"},
        "rbac": {"check": subject, "attest": [*subject, {"kind": "User", "name": EVE.name}]},
    }


@contextmanager
def installed(cluster: SimCluster, target: Target) -> Iterator[Release]:
    """Install the chart, and remove it again."""
    pages = {f"/runbooks/{path.stem}.md": path.read_bytes() for path in (ROOT / "docs" / "runbooks").glob("*.md")} | {
        "/deploy.md": b"# Deploy\n",
        "/rollback.md": b"# Roll back\n",
        "/runbooks.md": b"# Runbooks\n",
    }
    folder = target.folder / "ada"
    folder.mkdir()
    with serve_pages(pages) as site:
        helm(target, "install", CHART, "live", _values(target, site), wait="watcher", timeout=60)
        try:
            host, _, port = cluster.address(target.namespace, NAME, 80).rpartition(":")
            with tls_front(host, int(port), _CERTIFICATE) as front:
                _write_settings(folder, target, front)
                yield Release(cluster, target, pages, site, folder)
        finally:
            helm(target, "uninstall", "live", ignore_not_found=True)


def _write_settings(folder: Path, target: Target, front: int) -> None:
    secret = json.loads(kubectl(target, "get", "secret", f"{NAME}-keys", "-o", "json"))
    (folder / "admin-key").write_bytes(base64.b64decode(secret["data"]["ADMIN_KEY"]))
    _CERTIFICATE.write(folder)
    settings = {
        "namespace": target.namespace,
        "workload": NAME,
        "admin_key_file": "admin-key",
        "origins": ["https://app.example.org"],
        "roster": [ADA.name],
        "load": {"connections": 20, "publications": 60, "p99_seconds": 5.0},
    }
    (folder / "deploytool.yaml").write_text(json.dumps(settings))
    (folder / "connect-to").write_text(f"127.0.0.1:{front}")
