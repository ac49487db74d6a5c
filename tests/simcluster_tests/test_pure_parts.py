from __future__ import annotations

from pathlib import Path

import pytest

from tests.simcluster.environment import relocated
from tests.simcluster.errors import ApiError
from tests.simcluster.field_sets import from_fields_v1, leaves, spelled, to_fields_v1, without
from tests.simcluster.kinds import Kinds
from tests.simcluster.protobuf import decode
from tests.simcluster.requests import target_of
from tests.simcluster.selectors import field_predicate, label_predicate
from tests.simcluster.store import Store

_OBJECT = {
    "metadata": {"name": "a", "labels": {"app": "x", "tier": "web"}, "finalizers": ["f"]},
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "containers": [{"name": "c", "image": "1", "ports": [{"containerPort": 80}]}],
    },
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("selector", "is_matching"),
    [
        ("", True),
        ("app=x", True),
        ("app==x,tier!=db", True),
        ("app in (x, y),tier notin (db)", True),
        ("app,!gone", True),
        ("!app", False),
        ("app in (y)", False),
        ("gone=x", False),
    ],
)
def test_label_selector(selector: str, *, is_matching: bool) -> None:
    """Every form of a requirement."""
    assert is_matching is label_predicate(selector)(_OBJECT)


def test_field_selector() -> None:
    """A path may be equal or not."""
    assert field_predicate("metadata.name=a,status.phase!=Failed")(_OBJECT)
    assert not field_predicate("spec.nodeName=n")(_OBJECT)


def test_selector_that_is_none_is_refused() -> None:
    """With 400."""
    with pytest.raises(ApiError, match="unable to parse"):
        label_predicate("a=b=c=d!")


def test_field_set_survives_its_written_form() -> None:
    """Items of lists and sets, too."""
    paths = set(leaves(_OBJECT))

    assert paths == from_fields_v1(to_fields_v1(paths))
    assert '.spec.containers[name="c"].image' in {spelled(path) for path in paths}
    assert ".spec.selector" in {spelled(path) for path in paths}, "replaced as a whole"


def test_field_taken_out_takes_its_empty_parents_along() -> None:
    """And nothing else."""
    (path,) = [path for path in leaves(_OBJECT) if spelled(path) == '.metadata.finalizers[="f"]']

    left = without(_OBJECT, path)

    assert "finalizers" not in left["metadata"]
    assert _OBJECT["spec"] == left["spec"]


def test_store_forgets_and_says_so() -> None:
    """A version from before the compaction is answered 410."""
    store, resource = Store(), Kinds().get("ConfigMap")
    before = store.version
    store.put(resource, {"metadata": {"name": "a", "namespace": "n"}})

    assert ["ADDED"] == [change.kind for change in store.changes_since(before)]
    store.compact()
    with pytest.raises(ApiError) as caught:
        store.changes_since(before)
    assert 410 == caught.value.code


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/api/v1/namespaces", ("Namespace", "", "", "", "")),
        ("/api/v1/namespaces/n", ("Namespace", "", "n", "", "")),
        ("/api/v1/namespaces/n/status", ("Namespace", "", "n", "status", "")),
        ("/api/v1/namespaces/n/pods/p/log", ("Pod", "n", "p", "log", "")),
        ("/apis/apps/v1/deployments", ("Deployment", "", "", "", "")),
        ("/apis/apps/v1/namespaces/n/deployments/d/scale", ("Deployment", "n", "d", "scale", "")),
        ("/api/v1/namespaces/n/services/s:http/proxy/a/b/", ("Service", "n", "s:http", "proxy", "a/b/")),
    ],
)
def test_path_is_taken_apart(path: str, shown: tuple[str, ...]) -> None:
    """Kind, namespace, name, subresource and the rest."""
    target = target_of(Kinds(), path)

    assert target is not None
    assert shown == (target.resource.kind, target.namespace, target.name, target.subresource, target.rest)


def test_protobuf_of_a_secret_is_read() -> None:
    """As Helm sends it: metadata, data as base64, type."""
    meta = b"\x0a\x01s\x5a\x06\x0a\x01a\x12\x01b"
    secret = b"\x0a" + bytes([len(meta)]) + meta + b"\x12\x06\x0a\x01k\x12\x01v" + b"\x1a\x06Opaque"
    kind = b"\x0a\x02v1\x12\x06Secret"
    body = b"k8s\x00\x0a" + bytes([len(kind)]) + kind + b"\x12" + bytes([len(secret)]) + secret

    assert {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"a": "b"}},
        "data": {"k": "dg=="},
        "type": "Opaque",
    } == decode(body)


def test_protobuf_of_a_namespace_is_read() -> None:
    """As ``kubectl create namespace`` sends it."""
    kind = b"\x0a\x02v1\x12\x09Namespace"
    body = b"k8s\x00\x0a" + bytes([len(kind)]) + kind + b"\x12\x05\x0a\x03\x0a\x01n"

    assert {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}} == decode(body)


def test_protobuf_of_anything_else_is_refused() -> None:
    """Clearly."""
    kind = b"\x0a\x02v1\x12\x03Pod"

    with pytest.raises(ApiError, match="not of Pod"):
        decode(b"k8s\x00\x0a" + bytes([len(kind)]) + kind)


def test_paths_of_mounts_are_found_here() -> None:
    """Whole paths alone, the longest first, and the address of everything becomes the pod's own."""
    mounts = {"/data": Path("/x/d"), "/data/in": Path("/x/i")}

    assert "/x/d" == relocated("/data", mounts, "127.1.1.1")
    assert "@/x/i/k,/x/d/f" == relocated("@/data/in/k,/data/f", mounts, "127.1.1.1")
    assert "sqlite:////x/d/s.db" == relocated("sqlite:////data/s.db", mounts, "127.1.1.1")
    assert "/database /my/data" == relocated("/database /my/data", mounts, "127.1.1.1")
    assert "127.1.1.1" == relocated("0.0.0.0", mounts, "127.1.1.1")  # noqa: S104 - replaced
