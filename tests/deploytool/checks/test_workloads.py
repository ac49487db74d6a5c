"""Whose environment it is, and where its values come from."""

from __future__ import annotations

import textwrap

import pytest

from deploytool import manifests
from deploytool.checks import catalog, evaluation
from deploytool.checks.workloads import Environment, environments, ingresses, ours
from deploytool.model.expectations import Expectations
from deploytool.model.finding import Outcome, Result
from deploytool.model.snapshot import Snapshot

POD = """
    kind: Deployment
    metadata: {name: web}
    spec:
      strategy: {type: Recreate}
      template:
        metadata: {labels: {app: web}}
        spec:
          containers:
            - {name: sidecar, image: proxy}
            - name: main
              env: [%s]
              envFrom: [%s]
"""
CONFIG = "---\nkind: ConfigMap\nmetadata: {name: origins}\ndata: {FRONTEND_URL: https://app.example.org, site: https://b.example.org}"
KEY = "{name: TOKEN_HMAC_SECRET, valueFrom: {secretKeyRef: {name: keys, key: k}}}"


def read(text: str, more: str = "") -> Snapshot:
    """Read a file."""
    return manifests.parse("web.yaml", (textwrap.dedent(text) + more).encode())


def environment(snapshot: Snapshot) -> Environment:
    """Return the only environment."""
    (found,) = environments(snapshot)
    return found


def judged(snapshot: Snapshot, word: str, expectations: Expectations | None = None) -> Result:
    """Judge one item."""
    (found,) = evaluation.evaluate(snapshot, expectations or Expectations(), catalog.find(word)).results
    return found


@pytest.mark.parametrize(
    ("env", "sources", "value", "is_complete"),
    [
        pytest.param(
            "{name: FRONTEND_URL, value: https://a.example.org}", "", "https://a.example.org", True, id="here"
        ),
        pytest.param(
            "{name: FRONTEND_URL, valueFrom: {configMapKeyRef: {name: origins, key: site}}}, " + KEY,
            "",
            "https://b.example.org",
            True,
            id="from a ConfigMap",
        ),
        pytest.param(
            "{name: FRONTEND_URL, valueFrom: {configMapKeyRef: {name: other, key: site}}}",
            "",
            None,
            True,
            id="not read",
        ),
        pytest.param("{name: FRONTEND_URL, valueFrom: {fieldRef: {fieldPath: x}}}", "", None, True, id="from a field"),
        pytest.param(KEY, "{configMapRef: {name: origins}}", "https://app.example.org", True, id="all of a ConfigMap"),
        pytest.param(KEY, "{secretRef: {name: more}}", None, False, id="all of a Secret"),
    ],
)
def test_an_environment_is_followed_as_far_as_it_was_read(
    env: str,
    sources: str,
    value: str | None,
    is_complete: bool,  # noqa: FBT001  # a case
) -> None:
    """ConfigMaps in the same files are read; Secrets never are."""
    found = environment(read(POD % (env, sources), CONFIG))

    variable = found.get("FRONTEND_URL")
    assert (value, is_complete) == (variable.value if variable else None, found.is_complete)


def test_what_comes_from_elsewhere_is_not_judged() -> None:
    """Neither that there is no origin, nor that those that there are are good."""
    hidden = read(POD % ("{name: FRONTEND_URL, valueFrom: {configMapKeyRef: {name: other, key: s}}}, " + KEY, ""))
    partly = read(POD % (KEY, "{secretRef: {name: more}}"))

    for snapshot in (hidden, partly):
        assert Outcome.INCONCLUSIVE is judged(snapshot, "websocket-origins").outcome
        assert Outcome.INCONCLUSIVE is judged(snapshot, "origins-restricted").outcome


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(POD % (KEY, ""), ["web"], id="by its variables"),
        pytest.param(POD % ("{name: OTHER}", ""), [], id="something else"),
        pytest.param(
            "{kind: Deployment, metadata: {name: x, labels: {app.kubernetes.io/name: slackwater}}}", ["x"], id="label"
        ),
        pytest.param(
            "{kind: ReplicaSet, metadata: {name: x, labels: {app.kubernetes.io/name: slackwater}, "
            "ownerReferences: [{kind: Deployment}]}}",
            [],
            id="owned by another",
        ),
        pytest.param("{kind: Service, metadata: {name: x}}", [], id="no workload"),
    ],
)
def test_ours_are_found(text: str, names: list[str]) -> None:
    """By what only our service has."""
    assert names == [one.name for one in ours(read(text))]


def test_compose_lists_and_mappings_are_read_alike() -> None:
    """Both forms of environment."""
    listed = environment(read("services: {web: {environment: [WS_ANONYMOUS=true, TOKEN_HMAC_SECRET, 'X=${Y:?}']}}"))
    mapped = environment(
        read("services: {web: {env_file: x, environment: {WS_ANONYMOUS: true, TOKEN_HMAC_SECRET: null}}}")
    )

    for found in (listed, mapped):
        assert "true" == found.variables["WS_ANONYMOUS"].value
        assert found.variables["TOKEN_HMAC_SECRET"].value is None
    assert listed.variables["X"].value is None
    assert (True, False) == (listed.is_complete, mapped.is_complete)


def test_a_named_compose_service_is_ours() -> None:
    """Whatever it is called."""
    snapshot = read("services: {web: {}, db: {scale: 3}}").only(frozenset({"web"}))

    assert ["Service (compose) web"] == [one.subject for one in environments(snapshot)]


@pytest.mark.parametrize(
    ("service", "found"),
    [
        pytest.param("{kind: Service, metadata: {name: web}, spec: {selector: {app: web}}}", ["mine"], id="ours alone"),
        pytest.param(
            "{kind: Service, metadata: {name: web}, spec: {selector: {app: x}}}", ["mine", "other"], id="unknown"
        ),
    ],
)
def test_ingresses_that_lead_elsewhere_are_left_out(service: str, found: list[str]) -> None:
    """In a namespace there may be others."""
    rules = "[{http: {paths: [{backend: {service: {name: %s}}}]}}]"
    ingress = f"\n---\n{{kind: Ingress, metadata: {{name: %s}}, spec: {{rules: {rules}}}}}"
    snapshot = read(POD % (KEY, ""), f"---\n{service}" + ingress % ("mine", "web") + ingress % ("other", "shop"))

    assert found == [one.name for one in ingresses(snapshot)]


# authentication, as files show it


@pytest.mark.parametrize(
    ("env", "outcome", "says"),
    [
        pytest.param(KEY, Outcome.NOT_APPLICABLE, "nothing wrong in the files", id="a key"),
        pytest.param(
            "{name: WS_PING_INTERVAL, value: '1'}", Outcome.FAIL, "has no key to verify tokens with", id="none"
        ),
        pytest.param(
            f"{{name: SLACKWATER_MODE, value: development}}, {KEY}", Outcome.FAIL, "development mode", id="mode"
        ),
        pytest.param(
            "{name: TOKEN_HMAC_SECRET, value: s3cret}", Outcome.WARN, "stands in the clear", id="in the clear"
        ),
    ],
)
def test_authentication_in_files(env: str, outcome: Outcome, says: str) -> None:
    """Whether it works is for traffic to show."""
    found = judged(read(POD % (env, "")), "authentication")

    assert outcome is found.outcome
    assert says in " ".join(one.message for one in found.findings)


# origins


@pytest.mark.parametrize(
    ("value", "configured", "restricted"),
    [
        pytest.param("https://app.example.org", Outcome.PASS, Outcome.PASS, id="good"),
        pytest.param("https://app.example.org/", Outcome.PASS, Outcome.PASS, id="with a slash"),
        pytest.param("https://xn--bcher-kva.de:8443", Outcome.PASS, Outcome.PASS, id="port"),
        pytest.param("https://[2606:4700::1]", Outcome.PASS, Outcome.PASS, id="an address of the internet"),
        pytest.param("*", Outcome.PASS, Outcome.FAIL, id="all"),
        pytest.param("http://app.example.org", Outcome.PASS, Outcome.FAIL, id="http"),
        pytest.param("https://localhost:3000", Outcome.PASS, Outcome.FAIL, id="localhost"),
        pytest.param("https://[::1]", Outcome.PASS, Outcome.FAIL, id="loopback"),
        pytest.param("https://10.1.2.3", Outcome.PASS, Outcome.FAIL, id="private"),
        pytest.param("https://intranet", Outcome.PASS, Outcome.FAIL, id="without a dot"),
        pytest.param("https://app.test", Outcome.PASS, Outcome.FAIL, id="test"),
        pytest.param("https://your-domain.com", Outcome.PASS, Outcome.FAIL, id="a placeholder"),
        pytest.param("app.example.org", Outcome.FAIL, Outcome.FAIL, id="no scheme"),
        pytest.param("https://a.example.org:port", Outcome.FAIL, Outcome.PASS, id="no port"),
        pytest.param("https://[::1", Outcome.FAIL, Outcome.FAIL, id="no address"),
        pytest.param("https://me@a.example.org", Outcome.FAIL, Outcome.PASS, id="a user"),
    ],
)
def test_origins_in_files(value: str, configured: Outcome, restricted: Outcome) -> None:
    """One item is about origins being there and well formed, another about which they are."""
    snapshot = read(POD % (f"{{name: WS_ALLOWED_ORIGINS, value: '{value}'}}, {KEY}", ""))

    assert (configured, restricted) == (
        judged(snapshot, "websocket-origins").outcome,
        judged(snapshot, "origins-restricted").outcome,
    )


def test_development_mode_is_no_production() -> None:
    """It lets pages of the machine itself in."""
    text = "{name: SLACKWATER_MODE, value: development}, {name: FRONTEND_URL, value: https://a.example.org}"

    assert Outcome.FAIL is judged(read(POD % (text, "")), "origins-restricted").outcome


def test_an_origin_that_was_not_expected_fails() -> None:
    """``origins`` in deploytool.yaml is the whole list."""
    snapshot = read(POD % ("{name: FRONTEND_URL, value: https://a.example.org}", ""))
    expected = Expectations(origins=("https://b.example.org",))

    assert Outcome.FAIL is judged(snapshot, "origins-restricted", expected).outcome


# durability


@pytest.mark.parametrize(
    ("env", "outcome"),
    [
        pytest.param("{name: DATABASE_URL, value: 'memory:'}", Outcome.WARN, id="memory"),
        pytest.param(
            "{name: DATABASE_URL, valueFrom: {secretKeyRef: {name: db, key: u}}}", Outcome.PASS, id="a database"
        ),
        pytest.param("{name: DATA_DIR, value: /data}", Outcome.WARN, id="no volume"),
    ],
)
def test_durability_in_files(env: str, outcome: Outcome) -> None:
    """Without a database or a volume everything ends with the pod."""
    assert outcome is judged(read(POD % (f"{env}, {KEY}", "")), "single-instance").outcome


def test_a_claim_of_a_stateful_set_lasts() -> None:
    """Its volumes are templates."""
    text = """
        kind: StatefulSet
        metadata: {name: web}
        spec:
          volumeClaimTemplates: [{metadata: {name: data}}]
          template:
            spec:
              containers:
                - env: [{name: DATA_DIR, value: /data}, {name: SLACKWATER_MODE, value: production}]
                  volumeMounts: [{name: data, mountPath: /data}]
    """

    assert Outcome.PASS is judged(read(text), "single-instance").outcome


# Services and selectors


@pytest.mark.parametrize(
    ("selector", "outcome"),
    [
        pytest.param("{matchExpressions: [{key: app, operator: In, values: [web]}]}", Outcome.FAIL, id="in"),
        pytest.param("{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", Outcome.PASS, id="not in"),
        pytest.param("{matchExpressions: [{key: app, operator: Exists}]}", Outcome.FAIL, id="exists"),
        pytest.param("{matchExpressions: [{key: app, operator: DoesNotExist}]}", Outcome.PASS, id="does not"),
        pytest.param("{matchExpressions: [{key: app, operator: Odd}]}", Outcome.PASS, id="no operator"),
        pytest.param("{}", Outcome.FAIL, id="everything"),
        pytest.param("{matchLabels: {app: other}}", Outcome.PASS, id="another"),
    ],
)
def test_a_budget_concerns_what_it_selects(selector: str, outcome: Outcome) -> None:
    """By every kind of selector."""
    budget = f"---\n{{kind: PodDisruptionBudget, spec: {{minAvailable: 1, selector: {selector}}}}}"

    assert outcome is judged(read(POD % (KEY, ""), budget), "single-instance").outcome
