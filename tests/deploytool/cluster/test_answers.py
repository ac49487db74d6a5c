from __future__ import annotations

import json
from typing import Any

import pytest

from deploytool.cluster.answers import Question, explain
from deploytool.cluster.errors import (
    AnswerError,
    ConflictError,
    ForbiddenError,
    MissingError,
    NotServedError,
    RefusedError,
)
from deploytool.cluster.resources import CONFIG_MAPS, DEPLOYMENTS, POLICIES, SERVICES, Resource


def question(
    verb: str = "get", resource: Resource = DEPLOYMENTS, name: str = "live", subresource: str = ""
) -> Question:
    """Return what was asked in these tests."""
    return Question("https://cluster", verb, resource, name, subresource, "realtime" if resource.is_namespaced else "")


def status(message: str, **more: Any) -> bytes:  # noqa: ANN401 - JSON
    """Return a Status of an API server."""
    return json.dumps({"kind": "Status", "apiVersion": "v1", "message": message, **more}).encode()


def test_forbidden_verb_names_the_rule_that_would_allow_it() -> None:
    """Verb, resource, name and namespace, ready to be put into a Role."""
    message = (
        'deployments.apps "live" is forbidden: User "ada" cannot patch resource "deployments/scale" in API group "apps"'
    )

    error = explain(question("patch", subresource="scale"), 403, status(message))

    assert isinstance(error, ForbiddenError)
    assert "ada may not patch deployments/scale of apps live in namespace realtime" in str(error)
    assert "This rule of a Role would allow it" in str(error)
    assert error.rule == (
        '- apiGroups: ["apps"]\n  resources: [deployments/scale]\n  resourceNames: ["live"]\n  verbs: [patch]'
    )


def test_rule_of_a_list_has_no_name() -> None:
    """RBAC cannot limit one by names."""
    error = explain(question("list", CONFIG_MAPS, ""), 403, status("no"))

    assert isinstance(error, ForbiddenError)
    assert '- apiGroups: [""]\n  resources: [configmaps]\n  verbs: [list]' == error.rule


def test_rule_of_a_proxy_has_its_name_whatever_the_verb() -> None:
    """A create below a named object is limited by that name."""
    error = explain(question("create", SERVICES, "live-admin:admin", "proxy"), 403, status("no"))

    assert isinstance(error, ForbiddenError)
    assert 'resourceNames: ["live-admin:admin"]' in error.rule


def test_rule_of_a_cluster_wide_kind_is_of_a_cluster_role() -> None:
    """A Role would not do."""
    assert "of a ClusterRole" in str(explain(question(resource=POLICIES), 403, status("no")))


@pytest.mark.parametrize("code", [403, 422])
def test_policy_is_told_from_rbac(code: int) -> None:
    """Only what refuses for what was asked, and not for who asked, counts as a refusal."""
    said = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: at most 1 is allowed"

    error = explain(question("patch"), code, status(f'deployments.apps "live" is forbidden: {said}'))

    assert isinstance(error, RefusedError)
    assert ("p", True, "at most 1 is allowed") == (error.policy, error.is_by_admission, error.problem)


def test_webhook_is_a_refusal_too() -> None:
    """It saw what was asked."""
    error = explain(question("patch"), 403, status('admission webhook "gate.example.org" denied the request: no'))

    assert isinstance(error, RefusedError)
    assert error.is_by_admission


def test_validation_is_no_admission() -> None:
    """The API server itself would not have it."""
    error = explain(question("patch"), 422, status("spec.replicas: Invalid value"))

    assert isinstance(error, RefusedError)
    assert not error.is_by_admission


def test_absent_object_is_told_from_an_absent_kind() -> None:
    """The one is not there, the other cannot be."""
    details = {"reason": "NotFound", "details": {"name": "live"}}

    assert isinstance(explain(question(), 404, status("not found", **details)), MissingError)
    assert isinstance(explain(question("list", name=""), 404, b"404 page not found"), NotServedError)


def test_nobody_behind_a_service_says_where_to_look() -> None:
    """A half-installed release looks like this."""
    error = explain(question("get", SERVICES, "live-admin:admin", "proxy"), 503, status("no endpoints available"))

    assert isinstance(error, AnswerError)
    assert "nobody answers behind Service live-admin in realtime: no endpoints available" in str(error)
    assert "get pods" in str(error)


def test_conflict_is_one() -> None:
    """As when two attest at once."""
    assert isinstance(explain(question("create"), 409, status("already exists")), ConflictError)


@pytest.mark.parametrize(
    ("details", "owners"),
    [
        pytest.param({}, {}, id="of another kind"),
        pytest.param({"causes": "x"}, {}, id="no list"),
        pytest.param({"causes": [1, {"reason": "Other"}]}, {}, id="no owners"),
        pytest.param(
            {
                "causes": [
                    {"reason": "FieldManagerConflict", "message": 'conflict with "a" using apps/v1', "field": ".x"},
                    {
                        "reason": "FieldManagerConflict",
                        "message": 'conflict with "b" with subresource "s"',
                        "field": ".y",
                    },
                    {"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": ".z\x1b[2J"},
                    {"reason": "FieldManagerConflict"},
                ]
            },
            {"a": [".x", ".z [2J"], "b": [".y"], "somebody": [""]},
            id="by manager",
        ),
    ],
)
def test_conflict_of_an_apply_names_the_owners(details: dict[str, Any], owners: dict[str, list[str]]) -> None:
    """Each field manager with its fields."""
    error = explain(question("patch"), 409, status("Apply failed", details=details))

    assert isinstance(error, ConflictError)
    assert owners == error.owners


def test_text_from_the_other_end_cannot_steer_a_terminal() -> None:
    """Nor fill it."""
    error = explain(question(), 500, status("\x1b[2J" + "x" * 5000))

    assert "\x1b" not in str(error)
    assert len(str(error)) < 700


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [
        ("7", {}, 7.0),
        ("", {"retryAfterSeconds": 3}, 3.0),
        ("7", {"retryAfterSeconds": 3}, 7.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", {}, 0.0),
        ("-1", {"retryAfterSeconds": -1}, 0.0),
        ("²", {"retryAfterSeconds": "soon"}, 0.0),
        ("", {}, 0.0),
    ],
)
@pytest.mark.parametrize("code", [429, 503])
def test_time_to_stay_away_is_heard(code: int, header: str, details: dict[str, Any], seconds: float) -> None:
    """In the header, or in the Status; whatever else stands there is nothing."""
    error = explain(question(), code, status("busy", details=details), retry_after=header)

    assert seconds == error.retry_seconds
