"""ValidatingAdmissionPolicies: which of them speak about a write, and what they say.

Source: kubernetes.io, "Validating Admission Policy". Parameters and the authorizer are not served: a policy that
asks for them fails, as its failure policy says.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tests.simcluster.errors import ApiError
from tests.simcluster.expressions import ExpressionError, evaluate, to_cel
from tests.simcluster.selectors import matches_selector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simcluster.kinds import Kinds
    from tests.simcluster.registry import Review
    from tests.simcluster.store import Object, Store

__all__ = ("Policies",)

_CODES = {"Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413, "Unauthorized": 401}


class Policies:
    """Judges writes by the policies in a store."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds
        self._policies = kinds.get("ValidatingAdmissionPolicy")
        self._bindings = kinds.get("ValidatingAdmissionPolicyBinding")

    def judge(self, review: Review) -> None:
        """Ask every policy that is bound and matches.

        Raises:
            ApiError: The first refusal.
        """
        # A policy cannot bar its own removal.
        if review.resource.group == "admissionregistration.k8s.io":
            return
        for binding in self._store.all(self._bindings):
            policy = self._store.get(self._policies, "", binding["spec"]["policyName"])
            if policy is None or not self._matches(policy["spec"].get("matchConstraints"), review):
                continue
            limits = binding["spec"].get("matchResources")
            if limits is None or self._matches(limits, review):
                self._ask(policy, binding, review)

    def _matches(self, constraints: Mapping[str, Any] | None, review: Review) -> bool:
        constraints = constraints or {}
        rules = constraints.get("resourceRules")
        if rules is not None and not any(_rule_matches(rule, review) for rule in rules):
            return False
        if any(_rule_matches(rule, review) for rule in constraints.get("excludeResourceRules") or ()):
            return False
        if not self._namespace_matches(constraints.get("namespaceSelector"), review):
            return False
        selector = constraints.get("objectSelector")
        sides = [side for side in (review.before, review.after) if side is not None]
        return any(matches_selector(selector, side["metadata"].get("labels") or {}) for side in sides)

    def _namespace(self, review: Review) -> Object | None:
        if not review.namespace:
            return None
        return self._store.get(self._kinds.get("Namespace"), "", review.namespace)

    def _namespace_matches(self, selector: Mapping[str, Any] | None, review: Review) -> bool:
        namespace = self._namespace(review)
        if namespace is None:
            # Objects of the cluster are not exempt.
            return True
        return matches_selector(selector, namespace["metadata"].get("labels") or {})

    def _ask(self, policy: Object, binding: Object, review: Review) -> None:
        spec = policy["spec"]
        inputs = self._inputs(review)
        try:
            conditions = spec.get("matchConditions") or ()
            if not all(evaluate(one["expression"], inputs) for one in conditions):
                return
            inputs["variables"] = _variables(spec, inputs)
        except ExpressionError as error:
            self._failed(policy, binding, review, str(error))
            return
        for validation in spec.get("validations") or ():
            try:
                holds = bool(evaluate(validation["expression"], inputs))
            except ExpressionError as error:
                text = f"expression '{validation['expression']}' resulted in error: {error}"
                self._failed(policy, binding, review, text)
                continue
            if not holds:
                _act(policy, binding, review, _message(validation, inputs), validation.get("reason", "Invalid"))

    def _failed(self, policy: Object, binding: Object, review: Review, text: str) -> None:
        if policy["spec"].get("failurePolicy", "Fail") == "Fail":
            _act(policy, binding, review, text, "Invalid")

    def _inputs(self, review: Review) -> dict[str, Any]:
        scaled = review.options.subresource == "scale"
        resource = review.resource
        kind = ("autoscaling", "v1", "Scale") if scaled else (resource.group, resource.version, resource.kind)
        request: dict[str, Any] = {
            "uid": "00000000-0000-0000-0000-000000000000",
            "kind": dict(zip(("group", "version", "kind"), kind, strict=True)),
            "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
            "name": review.name,
            "namespace": review.namespace,
            "operation": review.operation,
            "userInfo": review.options.user.info(),
            "dryRun": review.options.is_dry_run,
            "options": {"fieldManager": review.options.manager},
        }
        if review.options.subresource:
            # Absent when it is empty, as on a real server: an expression has to ask has() first.
            request["subResource"] = request["requestSubResource"] = review.options.subresource
        return {
            "object": to_cel(review.after),
            "oldObject": to_cel(review.before),
            "request": to_cel(request),
            "namespaceObject": to_cel(self._namespace(review)),
            "params": None,
        }


def _rule_matches(rule: Mapping[str, Any], review: Review) -> bool:
    resource, subresource = review.resource.plural, review.options.subresource
    full = f"{resource}/{subresource}" if subresource else resource
    wanted = {full, "*/*"} | ({f"{resource}/*", f"*/{subresource}"} if subresource else {"*", f"{resource}/*"})
    names = rule.get("resourceNames")
    scope = "Namespaced" if review.resource.is_namespaced else "Cluster"
    return (
        bool({review.operation, "*"} & set(rule.get("operations") or ()))
        and bool({review.resource.group, "*"} & set(rule.get("apiGroups") or ()))
        and bool({review.resource.version, "*"} & set(rule.get("apiVersions") or ()))
        and bool(wanted & set(rule.get("resources") or ()))
        and (not names or review.name in names)
        and rule.get("scope", "*") in ("*", scope)
    )


def _variables(spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a value of CEL
    """Evaluate the variables in order; one that fails is not there, which only who uses it will see."""
    found = to_cel({})
    for variable in spec.get("variables") or ():
        with contextlib.suppress(ExpressionError):
            found[to_cel(variable["name"])] = evaluate(variable["expression"], {**inputs, "variables": found})
    return found


def _message(validation: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    if expression := validation.get("messageExpression"):
        try:
            return str(evaluate(expression, inputs))
        except ExpressionError:
            pass
    return str(validation.get("message") or f"failed expression: {validation['expression']}")


def _act(policy: Object, binding: Object, review: Review, text: str, reason: str) -> None:
    names = policy["metadata"]["name"], binding["metadata"]["name"]
    said = f"ValidatingAdmissionPolicy '{names[0]}' with binding '{names[1]}' denied request: {text}"
    actions = binding["spec"].get("validationActions") or ("Deny",)
    if "Warn" in actions:
        warning = f"Validation failed for ValidatingAdmissionPolicy '{names[0]}' with binding '{names[1]}': {text}"
        review.options.warnings.append(warning)
    if "Deny" in actions:
        plural, group = review.resource.plural, review.resource.group
        qualified = f"{plural}.{group}" if group else plural
        raise ApiError(
            _CODES.get(reason, 422),
            reason,
            f'{qualified} "{review.name}" is forbidden: {said}',
            details={
                "name": review.name,
                "group": group,
                "kind": plural,
                "causes": [{"message": said}],
            },
        )
