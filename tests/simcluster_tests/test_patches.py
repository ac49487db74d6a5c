from __future__ import annotations

from typing import Any

import pytest

from tests.simcluster.errors import ApiError
from tests.simcluster.json_patch import json_patch, merge_patch
from tests.simcluster.strategic_patch import strategic_patch

# RFC 7386, appendix A.
_MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": "foo"}, None, None),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "merged"), _MERGES)
def test_merge_patch_is_that_of_the_rfc(target: object, patch: object, merged: object) -> None:
    """Its own examples."""
    assert merged == merge_patch(target, patch)


@pytest.mark.parametrize(
    ("operation", "patched"),
    [
        pytest.param({"op": "add", "path": "/l/1", "value": 9}, {"a": 1, "l": [1, 9, 2]}, id="insert"),
        pytest.param({"op": "add", "path": "/l/-", "value": 9}, {"a": 1, "l": [1, 2, 9]}, id="append"),
        pytest.param({"op": "remove", "path": "/a"}, {"l": [1, 2]}, id="remove"),
        pytest.param({"op": "replace", "path": "/a", "value": None}, {"a": None, "l": [1, 2]}, id="replace"),
        pytest.param({"op": "move", "from": "/a", "path": "/b"}, {"b": 1, "l": [1, 2]}, id="move"),
        pytest.param({"op": "copy", "from": "/a", "path": "/b"}, {"a": 1, "b": 1, "l": [1, 2]}, id="copy"),
        pytest.param({"op": "add", "path": "/x~1y~0", "value": 1}, {"a": 1, "l": [1, 2], "x/y~": 1}, id="escaped"),
    ],
)
def test_json_patch_carries_out(operation: dict[str, Any], patched: object) -> None:
    """Each operation once; the target stays as it was."""
    target = {"a": 1, "l": [1, 2]}

    assert patched == json_patch(target, [operation])
    assert {"a": 1, "l": [1, 2]} == target


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "test", "path": "/a", "value": 2}, id="test"),
        pytest.param({"op": "replace", "path": "/none", "value": 2}, id="nothing there"),
        pytest.param({"op": "add", "path": "/l/7", "value": 2}, id="out of bounds"),
        pytest.param({"op": "jump", "path": "/a"}, id="unknown"),
    ],
)
def test_json_patch_refuses(operation: dict[str, Any]) -> None:
    """With 422, and the document is not used."""
    with pytest.raises(ApiError) as caught:
        json_patch({"a": 1, "l": [1]}, [operation])

    assert 422 == caught.value.code


def _pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(containers)}}


def test_strategic_patch_merges_a_list_by_its_key() -> None:
    """An item of the same name is merged, another appended, and the order can be set."""
    target = _pod({"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "1"})
    patch = _pod({"name": "c", "image": "1"}, {"name": "a", "image": "2", "args": ["z"]})
    patch["spec"]["$setElementOrder/containers"] = [{"name": "c"}, {"name": "b"}, {"name": "a"}]

    merged = strategic_patch(target, patch)

    c, b = {"name": "c", "image": "1"}, {"name": "b", "image": "1"}
    assert _pod(c, b, {"name": "a", "image": "2", "args": ["z"]}) == merged


def test_strategic_patch_directs() -> None:
    """Items are deleted, maps replaced, and only the retained keys kept."""
    target = {
        "metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
        "spec": {
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {}},
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    patch = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "replace", "z": "3"}},
        "spec": {
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            "volumes": [{"name": "v", "$patch": "delete"}],
        },
    }

    assert {
        "metadata": {"finalizers": ["b"], "labels": {"z": "3"}},
        "spec": {"strategy": {"type": "Recreate"}, "volumes": []},
    } == strategic_patch(target, patch)
