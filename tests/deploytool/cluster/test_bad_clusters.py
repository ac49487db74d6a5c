from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from deploytool.cluster import kubeconfig
from deploytool.cluster.client import Cluster, Limits
from deploytool.cluster.errors import (
    AnswerError,
    CertificateError,
    ClientMissingError,
    ClusterError,
    CredentialsError,
    KubeconfigError,
    UnreachableError,
)
from deploytool.cluster.resources import DEPLOYMENTS
from tests.support.edge import Certificate, certificate, odd_server

_GOOD = certificate("127.0.0.1")
_SHORT = Limits(request_seconds=2, total_seconds=4)
_STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}


def _http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def _config(folder: Path, server: str, cert: Certificate | None = None) -> str:
    cluster: dict[str, Any] = {"server": server}
    if cert is not None:
        cluster["certificate-authority"] = cert.write(folder)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "realtime"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@contextmanager
def _connected(
    folder: Path, answer: bytes | None, *, cert: Certificate = _GOOD, seconds: float = 10
) -> Iterator[Cluster]:
    with (
        odd_server(answer, cert=cert) as port,
        Cluster.connect(
            kubeconfig_path=_config(folder, f"https://127.0.0.1:{port}", cert),
            limits=Limits(request_seconds=seconds, total_seconds=2 * seconds),
        ) as cluster,
    ):
        yield cluster


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        pytest.param(_http("401 Unauthorized", json.dumps(_STATUS).encode()), CredentialsError, "expired", id="401"),
        pytest.param(_http("200 OK", b"<html>Hello</html>"), AnswerError, "no object of Kubernetes", id="a page"),
        pytest.param(_http("200 OK", b"[" * 100_000), AnswerError, "no object of Kubernetes", id="deep"),
        pytest.param(_http("200 OK", b'{"items": 3}'), AnswerError, "is none", id="no list"),
        pytest.param(_http("500 Oops", b"\x00\xff"), AnswerError, "answered 500", id="500"),
        pytest.param(_http("404 Not Found", b"page not found"), ClusterError, "no Deployment", id="404"),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n", UnreachableError, "cannot be reached", id="no HTTP"),
        pytest.param(b"", UnreachableError, "cannot be reached", id="hangs up"),
    ],
)
def test_odd_answer_becomes_a_sentence(tmp_path: Path, answer: bytes, kind: type[ClusterError], words: str) -> None:
    """Whatever answers, one sentence says so; no token is in it."""
    with _connected(tmp_path, answer) as cluster, pytest.raises(kind, match=words) as caught:
        cluster.all(DEPLOYMENTS)

    assert "secret-token" not in str(caught.value)
    assert 5 == caught.value.exit_code


def test_server_that_hangs_costs_its_time_once(tmp_path: Path) -> None:
    """Each request has a limit, and all of them together; what comes after is not even sent."""
    with _connected(tmp_path, None, seconds=0.2) as cluster:
        for _ in range(4):
            with pytest.raises(UnreachableError, match=r"did not answer within|stopped asking"):
                cluster.all(DEPLOYMENTS)

    assert cluster.calls < 4


def test_expired_certificate_is_named(tmp_path: Path) -> None:
    """The commonest failure of an old cluster."""
    with (
        _connected(tmp_path, b"", cert=certificate("127.0.0.1", days=-1)) as cluster,
        pytest.raises(CertificateError, match="has expired"),
    ):
        cluster.all(DEPLOYMENTS)


def test_certificate_for_another_name_is_named(tmp_path: Path) -> None:
    """It is not called expired."""
    with (
        _connected(tmp_path, b"", cert=certificate("elsewhere.example.org")) as cluster,
        pytest.raises(CertificateError, match="is not believed"),
    ):
        cluster.all(DEPLOYMENTS)


def test_nobody_there_is_named(tmp_path: Path) -> None:
    """The port was free a moment ago."""
    with odd_server(b"") as port:
        pass
    with (
        Cluster.connect(kubeconfig_path=_config(tmp_path, f"https://127.0.0.1:{port}")) as cluster,
        pytest.raises(UnreachableError, match="nothing listens at"),
    ):
        cluster.all(DEPLOYMENTS)


def _broken(text: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = folder / "config"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("write", "words"),
    [
        pytest.param(lambda folder: str(folder / "nowhere"), "there is no kubeconfig at", id="absent"),
        pytest.param(_broken("a: [1,\nb: }"), r"line 2 is not valid YAML", id="malformed"),
        pytest.param(_broken(""), "cannot be used", id="empty"),
        pytest.param(_broken("just text"), "cannot be used", id="text"),
        pytest.param(_broken("{clusters: 3, users: {}, contexts: []}"), "cannot be used", id="of other types"),
        pytest.param(
            _broken("{current-context: x, clusters: [], users: [], contexts: []}"), "cannot be", id="no context"
        ),
    ],
)
def test_broken_kubeconfig_is_a_usage_error(tmp_path: Path, write: Callable[[Path], str], words: str) -> None:
    """Nothing was asked of any cluster yet."""
    with pytest.raises(KubeconfigError, match=words) as caught:
        kubeconfig.load(write(tmp_path), "", {})

    assert 2 == caught.value.exit_code


def test_no_kubeconfig_at_all_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither named, nor at its usual place, nor in a pod."""
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(KubeconfigError, match="--offline"):
        kubeconfig.load("", "", {})


def test_folder_as_a_kubeconfig_is_a_usage_error(tmp_path: Path) -> None:
    """And no traceback."""
    with pytest.raises(KubeconfigError, match="cannot be read"):
        kubeconfig.load(str(tmp_path), "", {})


def test_missing_client_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed."""
    for name in ("kubernetes", "kubernetes.client", "kubernetes.config"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ClientMissingError, match=r"pip install 'slackwater\[deploytool\]'") as caught:
        kubeconfig.load("", "", {})

    assert 2 == caught.value.exit_code


def test_pod_without_an_account_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod that was given no token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(KubeconfigError, match="the account of this pod cannot be used"):
        kubeconfig.load("", "", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_server_without_tls_is_named(tmp_path: Path) -> None:
    """Something listens there, and it is no API server."""
    with (
        odd_server(b"HTTP/1.1 400 x\r\n\r\n") as port,
        Cluster.connect(kubeconfig_path=_config(tmp_path, f"https://127.0.0.1:{port}"), limits=_SHORT) as cluster,
        pytest.raises(UnreachableError, match=r"does not speak TLS|did not answer|cannot be reached"),
    ):
        cluster.all(DEPLOYMENTS)


def test_name_that_nobody_has_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a cluster was deleted."""

    def resolve(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with (
        Cluster.connect(kubeconfig_path=_config(tmp_path, "https://nowhere.invalid")) as cluster,
        pytest.raises(UnreachableError, match=r"the name of https://nowhere\.invalid cannot be resolved"),
    ):
        cluster.all(DEPLOYMENTS)
