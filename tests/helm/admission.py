"""Evaluates a ValidatingAdmissionPolicy as the API server does, as far as the chart's policies need it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import celpy
from celpy.adapter import json_to_cel

__all__ = ("Request", "matches", "refusals")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of the API server.

    Attributes:
        resource: Plural name, with the subresource behind a slash.
        labels_before: Labels of the object that an update replaces.
    """

    operation: str
    group: str
    resource: str
    content: Mapping[str, Any]
    namespace: str = "realtime"
    user: str = "ada"
    labels_before: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.content["metadata"]["name"])

    def variable(self) -> dict[str, Any]:
        """Return what CEL sees as ``request``; an empty subresource is absent."""
        resource, _, subresource = self.resource.partition("/")
        seen = {
            "operation": self.operation,
            "name": self.name,
            "namespace": self.namespace,
            "resource": {"group": self.group, "version": "v1", "resource": resource},
            "userInfo": {"username": self.user},
        }
        return seen | ({"subResource": subresource} if subresource else {})


def matches(policy: Mapping[str, Any], request: Request) -> bool:
    """Return whether the policy looks at the request at all."""
    constraints = policy["spec"]["matchConstraints"]
    return (
        any(_rule_matches(rule, request) for rule in constraints["resourceRules"])
        and _selects(constraints["namespaceSelector"], {"kubernetes.io/metadata.name": request.namespace})
        and (
            "objectSelector" not in constraints
            or _selects(constraints["objectSelector"], request.content["metadata"].get("labels", {}))
            or _selects(constraints["objectSelector"], request.labels_before)
        )
    )


def refusals(policy: Mapping[str, Any], request: Request) -> list[str]:
    """Return what the API server answers with; nothing when the request is let through."""
    if not matches(policy, request):
        return []
    names: dict[str, Any] = {"object": request.content, "request": request.variable(), "variables": {}}
    spec = policy["spec"]
    if not all(_evaluate(condition["expression"], names) for condition in spec.get("matchConditions", [])):
        return []
    for variable in spec.get("variables", []):
        names["variables"][variable["name"]] = bool(_evaluate(variable["expression"], names))
    return list(_failures(spec["validations"], names))


def _failures(validations: list[Mapping[str, Any]], names: Mapping[str, Any]) -> Iterator[str]:
    for validation in validations:
        if not _evaluate(validation["expression"], names):
            text = validation.get("messageExpression")
            yield str(_evaluate(text, names)) if text else validation["message"]


def _evaluate(expression: str, names: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any type of CEL
    environment = celpy.Environment()
    program = environment.program(environment.compile(expression))
    return program.evaluate({name: json_to_cel(dict(value)) for name, value in names.items()})


def _rule_matches(rule: Mapping[str, Any], request: Request) -> bool:
    return (
        request.operation in rule["operations"]
        and request.group in rule["apiGroups"]
        and request.resource in rule["resources"]
        and request.name in rule.get("resourceNames", [request.name])
    )


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert selector.keys() == {"matchLabels"}
    wanted: Mapping[str, str] = selector["matchLabels"]
    return wanted.items() <= labels.items()
