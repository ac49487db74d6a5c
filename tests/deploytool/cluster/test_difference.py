"""What people are shown of a change: what was asked for, no noise, and nothing secret."""

from __future__ import annotations

from typing import Any

import pytest

from deploytool.cluster.difference import differences, release_differences


def _deployment(**container: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "app", **container}]}}},
    }


def _env(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


_AT = "spec.template.spec.containers[app]"


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param({"image": "a:1"}, {"image": "a:2"}, [f"{_AT}.image: a:1 -> a:2"], id="value"),
        pytest.param({}, {"tty": False}, [f"{_AT}.tty: nothing -> false"], id="added"),
        pytest.param({"args": ["x"]}, {}, [f'{_AT}.args: ["x"] -> nothing'], id="removed"),
        pytest.param({"env": _env(A="1", B="2")}, {"env": _env(B="2", A="1")}, [], id="order"),
        pytest.param({"env": _env(A="1")}, {"env": _env(A="2")}, [f"{_AT}.env[A].value: 1 -> 2"], id="by name"),
        pytest.param({"resources": {}}, {}, [], id="empty is nothing"),
        pytest.param({"args": ["x" * 200]}, {}, [f'{_AT}.args: ["{"x" * 98}… -> nothing'], id="cut"),
        pytest.param(
            {"volumeMounts": [{"name": "d", "mountPath": "/a"}, {"name": "d", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "d", "mountPath": "/a"}, {"name": "d", "mountPath": "/c"}]},
            [f"{_AT}.volumeMounts[1].mountPath: /b -> /c"],
            id="names that are not unique",
        ),
        pytest.param(
            {"env": _env(API_TOKEN="old")},
            {"env": _env(API_TOKEN="new")},
            [f"{_AT}.env[API_TOKEN].value: (hidden) -> (hidden)"],
            id="secret",
        ),
        pytest.param(
            {},
            {"env": _env(ADMIN_KEY="abc")},
            [f'{_AT}.env: nothing -> [{{"name": "ADMIN_KEY", "value": "(hidden)"}}]'],
            id="secret in a list",
        ),
        pytest.param(
            {"env": _env(DATABASE="postgres://u:pw@h/d")},
            {"env": _env(DATABASE="postgres://u:pw@h/e")},
            [f"{_AT}.env[DATABASE].value: postgres://u:(hidden)@h/d -> postgres://u:(hidden)@h/e"],
            id="password in an address",
        ),
        pytest.param({"command": "a"}, {"command": "b\x1b[2J\n"}, [f"{_AT}.command: a -> b [2J "], id="printable"),
    ],
)
def test_change_is_one_line(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    """The path, what was there, and what would be."""
    assert lines == [*differences(_deployment(**before), _deployment(**after))]


def test_what_is_generated_is_no_change() -> None:
    """The server's own fields, its state, and annotations that follow from something else."""
    before, after = _deployment(), _deployment()
    before["metadata"] |= {"resourceVersion": "1", "generation": 1, "managedFields": [], "uid": "u"}
    after["metadata"] |= {"resourceVersion": "2", "generation": 2, "managedFields": [{}], "uid": "u"}
    after["status"] = {"replicas": 1}
    after["metadata"]["annotations"] = {
        "deployment.kubernetes.io/revision": "2",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    after["metadata"]["annotations"]["mine"] = "y"
    before["spec"]["template"]["metadata"] = {"annotations": {"checksum/config": "1"}}
    after["spec"]["template"]["metadata"] = {"annotations": {"checksum/config": "2"}}

    assert ["metadata.annotations.mine: nothing -> y"] == [*differences(before, after)]


def test_objects_of_a_release_are_named() -> None:
    """Those that come, go and change, beside the one that is spoken of elsewhere; of a Secret no more than that."""
    before = [
        _deployment(image="a:1"),
        {"kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}},
        {"kind": "Secret", "metadata": {"name": "keys"}, "data": {"KEY": "b2xk"}},
        {"kind": "ConfigMap", "metadata": {"name": "old"}},
        {"kind": "ConfigMap", "metadata": {"name": "same"}},
    ]
    after = [
        {"kind": "ConfigMap", "metadata": {"name": "same", "labels": {}}},
        {"kind": "ConfigMap", "metadata": {"name": "new"}},
        {"kind": "Secret", "metadata": {"name": "keys"}, "data": {"KEY": "bmV3"}},
        {"kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 81}]}},
        _deployment(image="a:2"),
    ]

    assert [
        "ConfigMap new: is added",
        "ConfigMap old: is removed",
        "Secret keys: is changed",
        "Service web: is changed: spec.ports[http].port",
    ] == [*release_differences(before, after, but="Deployment web")]
