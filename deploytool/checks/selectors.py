"""Label selectors of Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploytool.model.node import Node

__all__ = ("labels", "matches", "matches_all", "template_labels")


def labels(node: Node) -> Mapping[str, str]:
    """Return the labels of an object."""
    return _texts(node.child("metadata", "labels"))


def template_labels(workload: Node) -> Mapping[str, str]:
    """Return the labels of the pods that a workload makes."""
    return labels(workload.child("spec", "template"))


def matches_all(selector: Node, wanted: Mapping[str, str]) -> bool:
    """Whether a plain map of labels, as a Service has it, selects them; an empty one selects nothing."""
    pairs = _texts(selector)
    return bool(pairs) and all(wanted.get(key) == value for key, value in pairs.items())


def matches(selector: Node, wanted: Mapping[str, str]) -> bool:
    """Whether a selector with ``matchLabels`` and ``matchExpressions`` selects them; an empty one selects all.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
    """
    pairs = _texts(selector.child("matchLabels"))
    return all(wanted.get(key) == value for key, value in pairs.items()) and all(
        _expression(expression, wanted) for expression in selector.children("matchExpressions")
    )


def _expression(expression: Node, wanted: Mapping[str, str]) -> bool:
    key, values = expression.text("key"), expression.texts("values")
    operators = {
        "In": wanted.get(key) in values,
        "NotIn": wanted.get(key) not in values,
        "Exists": key in wanted,
        "DoesNotExist": key not in wanted,
    }
    return operators.get(expression.text("operator"), False)


def _texts(node: Node) -> Mapping[str, str]:
    return {str(key): node.text(str(key)) for key in node.content}
