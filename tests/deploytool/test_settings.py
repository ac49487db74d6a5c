"""``deploytool.yaml``: what it says, and what a person is told about the rest."""

from __future__ import annotations

import textwrap

import jsonschema
import pytest
import yaml

from deploytool.cli.checking import words
from deploytool.errors import SettingsError
from deploytool.manifests.documents import load
from deploytool.model.expectations import Expectations, Waiver
from deploytool.planning.configuration import SCHEMA as WINDOWS
from deploytool.settings import SCHEMA, Settings, schema, settings_of

WHOLE = """
    namespace: realtime
    workload: slackwater
    context: production
    url: wss://realtime.example.org
    prometheus_url: https://prometheus.example.org
    admin_url: http://127.0.0.1:3001
    admin_key_file: /run/secrets/admin-key
    browsers: true
    origins: [https://app.example.org]
    load_balancer: false
    tls_days_left: 21
    roster: [ada@example.org, bob@example.org]
    drill_max_age_days: 90
    attestation_max_days: 0
    load: {connections: 200, publications: 1000, p99_seconds: 0.25, lost: 0, errors: 1, max_age_days: 30}
    skip: [documentation]
    waivers:
      - item: infrastructure.database-pool
        reason: the server is moved in spring
        owner: ada@example.org
        expires: 2027-03-31
"""
DAY = 86_400.0
# 2027-04-01T00:00:00Z
APRIL = 1_806_537_600.0


def read(text: str) -> Settings:
    """Read a file."""
    (document,) = load("deploytool.yaml", textwrap.dedent(text).encode())
    return settings_of("deploytool.yaml", document, words())


def problems(text: str) -> tuple[str, ...]:
    """Return what is wrong with a file."""
    with pytest.raises(SettingsError) as caught:
        read(text)
    return caught.value.problems


def test_everything_can_be_said() -> None:
    """Each key ends where a check or a command looks for it."""
    settings = read(WHOLE)

    expected = settings.expectations
    assert {"namespace", "workload", "context", "url", "prometheus_url", "admin_url", "admin_key_file"} == {
        *settings.where
    }
    assert (True, False, 21) == (expected.has_browsers, expected.behind_load_balancer, expected.tls_days_left)
    assert (90 * DAY, 0.0) == (expected.drill_max_age_seconds, expected.max_attestation_seconds)
    assert (200, 1000, 0.25, 0, 1, 30 * DAY) == (
        expected.load.connections,
        expected.load.publications,
        expected.load.p99_seconds,
        expected.load.lost,
        expected.load.errors,
        expected.load.max_age_seconds,
    )
    assert ("documentation",) == settings.skip
    (waiver,) = expected.waivers
    assert (
        Waiver("infrastructure.database-pool", "the server is moved in spring", "ada@example.org", APRIL, line=19)
        == waiver
    )


def test_nothing_said_is_the_default() -> None:
    """An empty file, and none."""
    assert Expectations() == settings_of("x", None, {}).expectations
    assert Expectations() == settings_of("x", {}, {}).expectations


def test_every_key_of_the_schema_is_read() -> None:
    """The example above leaves none out."""
    assert {*SCHEMA["properties"]} - {"windows"} == {*yaml.safe_load(textwrap.dedent(WHOLE))}


@pytest.mark.parametrize(
    ("expires", "at"),
    [
        pytest.param("2027-03-31", APRIL, id="the end of a day"),
        pytest.param("'2027-03-31'", APRIL, id="in quotes"),
        pytest.param("2027-04-01T02:00:00+02:00", APRIL, id="an instant"),
        pytest.param("'2027-04-01T00:00Z'", APRIL, id="without seconds"),
        pytest.param("2027-04-01 00:00:00", APRIL, id="without a zone is UTC"),
    ],
)
def test_a_waiver_expires_when_it_says(expires: str, at: float) -> None:
    """The whole of the last day counts."""
    (waiver,) = read(f"waivers: [{{item: '12', reason: r, owner: o, expires: {expires}}}]").expectations.waivers

    assert ("security.tls", at) == (waiver.item, waiver.expires_at)


@pytest.mark.parametrize("missing", ["item", "reason", "owner", "expires"])
def test_a_waiver_needs_all_its_parts(missing: str) -> None:
    """Who, why, and until when."""
    parts = {"item": "tls", "reason": "r", "owner": "o", "expires": "2027-03-31"}
    text = "".join(f"{name}: '{value}', " for name, value in parts.items() if name != missing)

    assert (f"line 1: waivers[0] needs {missing}",) == problems(f"waivers: [{{{text}}}]")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("load: {lost: x}", "line 1: load.lost has to be a whole number", id="no number"),
        pytest.param("waivers: 5", "line 1: waivers has to be a list", id="no list"),
        pytest.param("[]", "the file has to be a mapping of keys and values", id="a list"),
        pytest.param("text", "the file has to be a mapping of keys and values", id="text"),
        pytest.param("origin: []", "line 1: unknown key origin; did you mean origins?", id="a slip"),
        pytest.param("1: 2", "line 1: unknown key 1; known are", id="no word"),
        pytest.param(
            "load: {connection: 1}", "line 1: unknown key load.connection; did you mean connections?", id="inside"
        ),
        pytest.param("load: 5", "line 1: load has to be a mapping", id="no mapping"),
        pytest.param("browsers: 'yes'", "line 1: browsers has to be true or false", id="no truth value"),
        pytest.param("tls_days_left: 1.5", "line 1: tls_days_left has to be a whole number", id="a fraction"),
        pytest.param("tls_days_left: true", "line 1: tls_days_left has to be a whole number", id="a truth value"),
        pytest.param("load: {p99_seconds: .nan}", "line 1: load.p99_seconds may not be negative", id="not a number"),
        pytest.param("namespace: 5", "line 1: namespace has to be text; put it in quotes", id="no text"),
        pytest.param("namespace: ' '", "line 1: namespace is empty", id="empty"),
        pytest.param("\nurl: realtime.example.org", "line 2: url has to be an address", id="no address"),
        pytest.param("origins: [app.example.org]", "line 1: origins[0] has to be an address", id="no origin"),
        pytest.param(
            "waivers: [{item: tsl, reason: r, owner: o, expires: 2027-03-31}]",
            "line 1: waivers: there is no item tsl; did you mean tls?",
            id="no item",
        ),
        pytest.param(
            "waivers: [{item: security, reason: r, owner: o, expires: 2027-03-31}]",
            "line 1: waivers: there is no item security",
            id="a whole category",
        ),
        pytest.param(
            "waivers: [{item: tls, reason: r, owner: o, expires: never}]",
            "line 1: waivers[0].expires has to be a date such as 2027-03-31, not never",
            id="no date",
        ),
        pytest.param(
            "waivers: [{item: tls, reason: r, owner: o, expires: '2027-02-30'}]",
            "line 1: waivers: 2027-02-30 is no date",
            id="an impossible date",
        ),
    ],
)
def test_what_makes_no_sense_is_told(text: str, problem: str) -> None:
    """With its line, and what was meant where that can be guessed."""
    (found,) = problems(text)

    assert found.startswith(problem)


def test_an_item_is_waived_once() -> None:
    """Two waivers would contradict each other."""
    one = "{item: %s, reason: r, owner: o, expires: 2027-03-31}"

    assert ("security.tls is waived more than once",) == problems(
        f"waivers: [{one % 'tls'}, {one % 12}]".replace("12", "'12'")
    )


def test_the_published_schema_agrees() -> None:
    """An editor that knows it says the same as the tool."""
    jsonschema.Draft202012Validator.check_schema(schema(WINDOWS))
    validator = jsonschema.Draft202012Validator(schema(WINDOWS))

    quoted = textwrap.dedent(WHOLE).replace("2027-03-31", "'2027-03-31'")  # a date is text to JSON
    whole = yaml.safe_load(quoted)
    assert validator.is_valid(whole)
    wrong: list[dict[str, object]] = [
        {"origin": []},
        {"tls_days_left": -1},
        {"waivers": [{"item": "tls"}]},
        {"url": "x"},
        {"roster": "ada"},
    ]
    assert not [one for one in wrong if validator.is_valid(one)]
